"""The experiments of chapter 4: what is asked of its trainings, what is taken of it, what the papers lead to expect."""

from __future__ import annotations

from experiments import Chapters, Experiment
from foundation_rows import FOUNDATION_ROWS
from trainings import JUDGE, MNIST


def _restored(name: str) -> Experiment:
    return Experiment(
        about=f"Cold diffusion: {name}",
        asked="RMSE, SSIM and Fréchet distance of Algorithms 1 and 2 and of the direct restoration",
        taken="200 digits of 16 x 16; no Fréchet distance of restored pictures",
        expected="the direct one has the least RMSE, Algorithm 2 little more; Algorithm 1 and no restoration are worse "
        "(Bansal et al. 2022, Tables 1-3: .142, .154 and .287 on MNIST, blurred)",
        figure="rmse",
        order=tuple(f"cold_{name}:rmse_{way}" for way in ("algorithm_2", "algorithm_1")),
    )


def _compared(schedule: str, samplers: str, stem: str) -> str:
    return (
        f"hvis compare samplers --model runs/ddpm_plain --samplers {samplers} --schedule {schedule} --nfe 5,10,20,50 "
        f"--fine 60 --count 100 --against {MNIST} --split validation --judge {JUDGE} -o {stem}"
    )


_EXPERIMENTS = (
    Experiment(
        about="Likelihoods of flows, variational diffusion, the probability flow and DDPM",
        asked="one ledger of bits/dim with one test-set definition",
        taken="300 validation digits of 28 x 28 for all; the test files are not at hand",
        expected="VDM 2.65, score SDE 2.99, Glow 3.35, Real NVP 3.49, DDPM's bound 3.75 on CIFAR-10: in that order",
        found=(
            "At the same minutes of one core the flows, whose layers are small, saw 320,000 digits and the diffusion "
            "models 83,000 to 96,000, or 1.5 epochs; the papers train to the end"
        ),
        commands=(("python benchmarks/likelihoods.py ledger --runs runs", 16),),
        curve="ledger",
        figure="bits_per_dim",
        order=("vdm", "score_sde", "glow", "realnvp", "ddpm_28"),
    ),
    Experiment(
        about="Linear, cosine and learned schedules: the spread of the loss",
        asked="bits/dim of each on the same data",
        taken="variational diffusion between the same ends on digits of 28 x 28, six octaves of Fourier features",
        expected="the learned schedule, which is taught to, has the least (Kingma et al. 2021, Sec. 5.1)",
        commands=(("python benchmarks/likelihoods.py schedules --runs runs", 5),),
        curve="schedules",
        figure="spread",
        order=("learned", "linear", "cosine"),
    ),
    Experiment(
        about="Linear, cosine and learned schedules: the bound",
        asked="bits/dim of each on the same data",
        taken="the same runs, in the table above",
        expected="alike, since the bound in continuous time does not know the schedule; training does",
        curve="schedules",
        figure="bits_per_dim",
        order=("learned", "linear", "cosine"),
        alike=True,
    ),
    Experiment(
        about="Classifier-free guidance",
        asked="scene accuracy and Fréchet distance against the guidance scale on the shipped text-to-image model",
        taken="as asked, scales 1 to 8, 300 English prompts each",
        expected="accuracy rises and levels off; the distance falls, then rises: a U",
        commands=(("python benchmarks/sweep.py guidance_scale 1 1.5 2 3 4 5 6 7 8 --model tiny --count 300", 14),),
        curve="guidance_scale-tiny",
        figure="frechet",
        order=("dpm++2m 2", "dpm++2m 1", "dpm++2m 8"),
    ),
    Experiment(
        about="Every sampler: quality against network calls",
        asked="all samplers at 5, 10, 20 and 50 calls of the shipped text-to-image model, in one plot",
        taken="50 pictures each: PSNR to Heun's of 100 calls, and the distance to 50 real pictures with their captions",
        expected="of solvers without fresh noise those with a history are ahead of DDIM (Zhao et al. 2023, Fig. 3)",
        found=(
            "Heun, DPM2 and PNDM do not stand still from 20 to 50 calls, though their PSNR does: it is of all "
            "pictures together, and a few on which the solvers disagree decide it. Of 12 pictures (seeds 0 to 11, "
            "four captions) the relative error of the median picture's latents falls from 0.046 to 0.011 for Heun's "
            "10 and 25 steps, from 0.088 to 0.015 for DPM2's, and from 0.023 to 0.011 for PNDM's 20 and 50, while "
            "one picture alone has 0.75, 0.89 and 0.48 of the squares that are left, and the worst is off by 0.12, "
            "0.27 and 0.14 of its size. UniPC's 50 steps are off by 0.13 in the picture that is the worst of Heun "
            "and DPM2, by 0.006 in the median. The reference is not exact either: of two pictures, Heun's 50 and "
            "100 steps differ by 0.019 on average. `hvis compare samplers` records the picture in the middle as "
            "`psnr_median`: from 20 to 50 calls it rises from 40.7 to 53.6 dB for Heun, 35.4 to 47.5 for DPM2, 42.5 to "
            "55.5 for PNDM, 42.5 to 53.7 for UniPC and 39.6 to 45.7 for DDIM"
        ),
        commands=(
            (
                "hvis compare samplers --model tiny --samplers all --nfe 5,10,20,50 --fine 50 --against world:2000 "
                "--count 50 --minutes 100 -o benchmarks/curves/samplers",
                40,
            ),
        ),
        curve="samplers",
        figure="psnr 20",
        order=("unipc", "dpm++2m", "ddim"),
        more=True,
    ),
    Experiment(
        about="Improved DDPM: the loss, on the cosine table",
        asked="bits/dim, linear and cosine, by the simple, the hybrid and the bound's loss",
        taken="digits of 16 x 16, 1,000 steps of 64",
        expected="bound <= hybrid < simple (Nichol & Dhariwal 2021, Tables 1-2)",
        found="Bound and hybrid are level; both are ahead of the simple loss by four standard errors",
        figure="bits_per_dim",
        order=("improved_bound_cosine", "improved_cosine", "ddpm_cosine"),
    ),
    Experiment(
        about="Improved DDPM: the loss, on the linear table",
        asked="the same on the linear table",
        taken="digits of 16 x 16, 1,000 steps of 64",
        expected="bound <= hybrid < simple",
        figure="bits_per_dim",
        order=("improved_bound_linear", "improved_linear", "ddpm_plain"),
    ),
    Experiment(
        about="Improved DDPM: few steps",
        asked="Fréchet distance at 50 steps",
        taken="1,000 digits of 16 x 16 in a LeNet's features",
        expected="a learned variance draws better in 50 steps than a fixed one; the bound alone draws worst",
        figure="frechet_50",
        order=("improved_cosine", "ddpm_cosine", "improved_bound_cosine"),
    ),
    Experiment(
        about="DDIM",
        asked="Fréchet distance at 10, 20, 50, 100, 1000 steps",
        taken="300 digits of 16 x 16",
        expected="DDIM is better than DDPM the fewer the steps (CIFAR-10: 13.36/6.84/4.67/4.16/4.04)",
        commands=(
            (
                "python benchmarks/sweep.py steps 10 20 50 100 1000 --samplers ddim,ddpm --model runs/ddpm_plain "
                f"--count 300 --against {MNIST} --split validation --judge {JUDGE}",
                16,
            ),
        ),
        curve="steps-ddpm_plain",
        figure="frechet",
        order=("ddim 10", "ddpm 10"),
    ),
    Experiment(
        about="PNDM, DPM-Solver, UniPC, DEIS and others on a trained model",
        asked="Fréchet distance against network calls",
        taken="100 digits of 16 x 16",
        expected="at 10 calls the multistep solvers are ahead of DDIM; at 50 all are alike",
        commands=((_compared("logsnr", "ddim,plms,dpm++2m,dpm++2s,unipc,deis", "benchmarks/curves/solvers"), 7),),
        curve="solvers",
        figure="frechet 10",
        order=("dpm++2m", "ddim"),
    ),
    Experiment(
        about="EDM",
        asked="Fréchet distance against calls, Heun on rho's grid against DDIM with the same network",
        taken="100 digits of 16 x 16; beside it a network trained by EDM's own recipe",
        expected="at 35 calls Heun reaches what DDIM needs more for (Karras et al. 2022, Fig. 2)",
        order=("edm:frechet_18", "ddpm_plain:frechet_50"),
        commands=((_compared("karras", "ddim,heun,euler", "benchmarks/curves/edm"), 4),),
        curve="edm",
    ),
    Experiment(
        about="Classifier guidance",
        asked="class accuracy and diversity against the scale",
        taken="300 digits of 16 x 16 for each scale",
        expected="accuracy rises, diversity falls (Dhariwal & Nichol 2021, Fig. 4)",
        commands=(
            (
                "python benchmarks/sweep.py guidance_scale 0 1 2 4 8 --model runs/noisy_classifier --count 300 "
                f"--against {MNIST} --split validation --judge {JUDGE}",
                6,
            ),
        ),
        curve="guidance_scale-noisy_classifier",
        figure="accuracy",
        order=("ddim 8", "ddim 4", "ddim 1", "ddim 0"),
        more=True,
    ),
    Experiment(
        about="Analytic-DPM",
        asked="bits/dim of chains of 10 to 1000 steps",
        taken="chains of 10, 25, 50, 100, 200 and 1000 steps on 200 digits of 16 x 16",
        expected="below both beta and beta-tilde at every number of steps, most at few (Bao et al. 2022, Table 1)",
        found=(
            "In `steps`, which the theorem is about, the fitted variance is ahead of both at every number of them. The "
            "last step decides the sum: two thirds of these numbers are black or white, whose bins reach to infinity "
            "and cost a bit at most, so that the best variance there is that of the others. With 2 and 4 times the "
            "fitted variance the last of 25 steps costs 2.63 and 2.57 bits instead of 2.91 (100 digits). The network "
            "is not quite its own mean either: at the least level its error is 0.62 where 1 - Gamma says 0.83"
        ),
        commands=(("python benchmarks/likelihoods.py chains --runs runs", 6),),
        figure="bits_per_dim",
        order=("analytic 10", "beta-tilde 10", "beta 10"),
        curve="chains",
    ),
    Experiment(
        about="GGDM",
        asked="Fréchet distance in 5 to 10 steps beside DDIM's",
        taken="5 steps, fitted by the features of a classifier of noisy digits; the distance is by another's",
        expected="learned steps draw better (Watson et al. 2022, LSUN churches in 10 steps: 11.6 and 51.1)",
        figure="frechet_5",
        order=("ggdm", "ddpm_plain"),
    ),
    _restored("blur"),
    _restored("mask"),
    _restored("pixelate"),
    Experiment(
        about="Flow matching with optimal pairs",
        asked="straightness of the paths (no E of its own)",
        taken="100 digits of 16 x 16",
        expected="optimal pairs are straighter than none (Tong et al. 2023, Table 3)",
        figure="straightness",
        order=("flow_optimal", "flow_matching"),
    ),
    Experiment(
        about="Reflow",
        asked="straightness of the paths, and pictures in one step (no E of its own)",
        taken="5,000 pairs of digits of 16 x 16",
        expected="each reflow is straighter than what taught it (Liu et al. 2022, Fig. 6)",
        figure="straightness",
        order=("reflow", "rectified_flow"),
    ),
    Experiment(
        about="One-step flow",
        asked="Fréchet distance in one step (no E of its own)",
        taken="1,000 digits of 16 x 16",
        expected="taught for one step, a flow draws better in it than the first flow, which was not",
        figure="frechet_1",
        order=("reflow_one_step", "rectified_flow"),
    ),
    Experiment(
        about="NCSN",
        asked="Fréchet distance",
        taken="digits of 16 x 16, annealed Langevin; beside it DDPM of equal training",
        expected="DDPM is ahead (CIFAR-10: FID 3.17 and 25.32)",
        figure="frechet_50",
        order=("ddpm_plain", "ncsn"),
    ),
    Experiment(
        about="Score SDE: colours by replacement",
        asked="colouring by replacement",
        taken="60 pictures of 32 x 32 of the test split, by `rdm_none`, 50 steps",
        expected="colours bring grey pictures nearer to true ones, more so if each part of the way is walked 3 times",
        found=(
            "Both ways come near to what true pictures have, and 60 of them do not tell the two apart; on the sheet "
            "colours that were walked 3 times are more even, and a lion and an orange square get theirs"
        ),
        commands=(("python benchmarks/replacement.py --model runs/rdm_none --count 60", 12),),
        curve="replacement",
        figure="frechet",
        order=("colours, 3 times", "colours, one walk", "grey, as given"),
    ),
    Experiment(
        about="Score SDE: holes by replacement",
        asked="inpainting by replacement",
        taken="the right halves of the same pictures, in the table above",
        expected="as of colours",
        curve="replacement",
        figure="frechet",
        order=("half, 3 times", "half, one walk", "half, as given"),
    ),
    Experiment(
        about="Bit diffusion",
        asked="8-bit pixels with and without self-conditioning",
        taken="digits of 16 x 16",
        expected="self-conditioning draws better (Chen et al. 2022, Fig. 4)",
        figure="frechet_50",
        order=("bit", "bit_plain"),
    ),
    Experiment(
        about="Bit diffusion: captions",
        asked="captions of the world as bits",
        taken="English captions of 20,000 pictures; described are 200 of the test split, whose groups are new",
        expected="sentences name what is there; the same sentences said of other pictures do not",
        found=(
            "The asymmetric steps of the paper's Sec. 2.3 help here: with `td` 0 and the same weights .405 of the "
            "sentences name what is there and .200 are true; 100 steps instead of 20 change that little (.415, .205)"
        ),
        order=("captions:named", "captions:named_by_chance"),
        more=True,
    ),
    Experiment(
        about="Soft diffusion",
        asked="blur and noise against noise alone, at equal training",
        taken="digits of 16 x 16; noise alone goes up to sigma = 20",
        expected="blur and noise draws better (Daras et al. 2022, Table 2)",
        figure="frechet_100",
        order=("soft", "soft_noise"),
    ),
    Experiment(
        about="Non-uniform diffusion",
        asked="time to a Fréchet distance with Haar wavelets of several speeds",
        taken="the distance at equal minutes",
        expected="wavelets are ahead at equal time",
        found=(
            "A step of the wavelets' smaller U-Net takes a third of the time, so that it has seen three times as many "
            "digits; at 16 x 16 there is little of a coarse scale to gain from"
        ),
        order=("haar:frechet_50", "one_speed:frechet_50"),
    ),
    Experiment(
        about="Retrieval-augmented diffusion: a database of blue things",
        asked="the share of blue things when the database is changed without training",
        taken="200 pictures from each database, seen by the judge of the world; beside them pictures of the databases",
        expected="more blue than from the model's own database (Blattmann et al. 2022 exchange databases so)",
        commands=(("python benchmarks/blue.py --model runs/rdm --count 200", 3),),
        curve="blue",
        figure="blue",
        order=("blue database", "own database"),
        more=True,
    ),
    Experiment(
        about="Retrieval-augmented diffusion",
        asked="a half-size model with a database against a full one without",
        taken="5,000 pictures of the world at 32 x 32, equal minutes",
        expected="half the width with neighbours draws as well as the full width without",
        figure="frechet_50",
        order=("rdm", "rdm_none"),
    ),
)

_LEFT_OUT = (
    "DFNO, progressive distillation, LCM, ADD, UFOGen and export are of later chapters.",
    "The Fashion-MNIST at hand is 720 pictures, 120 of them held out: too few for a distance with a floor, so that "
    "experiments named for it are on MNIST.",
    "Diffusion 2015, both chains: `trained/swiss-roll.json` and `trained/heartbeat.json`.",
)

FOUNDATIONS = Chapters(
    title="chapter 4",
    figures=(
        "Figures are of validation digits, which no training sees. A Fréchet distance stands beside its floor, that of "
        "other real pictures."
    ),
    rows=FOUNDATION_ROWS,
    experiments=_EXPERIMENTS,
    left_out=_LEFT_OUT,
)
