"""Settings of diffusers' schedulers: what each class takes where a file is silent, and which values we compute.

Read by `checkpoints.diffusers_scheduler`. Book: chapter 5, "Checkpoints".
"""

from __future__ import annotations

from typing import Any

PREDICTIONS_OF = {"epsilon": "eps", "v_prediction": "v", "sample": "x0", "flow_prediction": "velocity"}
"""Our names of what a network predicts, by theirs."""

DEFAULTS: dict[str, Any] = {
    "num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear",
    "trained_betas": None, "prediction_type": "epsilon", "steps_offset": 0, "rescale_betas_zero_snr": False,
    "clip_sample": False, "clip_sample_range": 1.0, "thresholding": False, "dynamic_thresholding_ratio": 0.995,
    "sample_max_value": 1.0, "timestep_spacing": "leading",
}  # fmt: skip
_LINSPACE = {"timestep_spacing": "linspace"}
_SIGMAS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_ENDS = {"final_sigmas_type": "zero"}
_FLOW = {"use_flow_sigmas": False, "flow_shift": 1.0}
_MULTISTEP: dict[str, Any] = _LINSPACE | _SIGMAS | _ENDS | {
    "solver_order": 2, "solver_type": "midpoint", "lower_order_final": True, "algorithm_type": "dpmsolver++",
    "use_lu_lambdas": False, **_FLOW,
}  # fmt: skip
_BOUNDS = {"sigma_min": None, "sigma_max": None}
OWN: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"set_alpha_to_one": True, "clip_sample": True},
    "DDPMScheduler": {"variance_type": "fixed_small", "clip_sample": True},
    "PNDMScheduler": {"set_alpha_to_one": False, "skip_prk_steps": False},
    "LCMScheduler": {"original_inference_steps": 50, "timestep_scaling": 10.0, "beta_schedule": "scaled_linear",
                     "beta_start": 0.00085, "beta_end": 0.012},
    "EulerDiscreteScheduler": _LINSPACE | _SIGMAS | _ENDS | _BOUNDS | {"interpolation_type": "linear",
                                                                       "timestep_type": "discrete"},
    "EulerAncestralDiscreteScheduler": _LINSPACE,
    "HeunDiscreteScheduler": _LINSPACE | _SIGMAS | {"beta_start": 0.00085, "beta_end": 0.012},
    "LMSDiscreteScheduler": _LINSPACE | _SIGMAS,
    "KDPM2DiscreteScheduler": _LINSPACE | _SIGMAS | {"beta_start": 0.00085, "beta_end": 0.012},
    "KDPM2AncestralDiscreteScheduler": _LINSPACE | _SIGMAS | {"beta_start": 0.00085, "beta_end": 0.012},
    "DPMSolverSDEScheduler": _LINSPACE | _SIGMAS | {"beta_start": 0.00085, "beta_end": 0.012},
    "DPMSolverMultistepScheduler": _MULTISTEP | {"euler_at_final": False},
    "DPMSolverSinglestepScheduler": _MULTISTEP | {"lower_order_final": False},
    "UniPCMultistepScheduler": _MULTISTEP | _BOUNDS | {"solver_type": "bh2", "predict_x0": True,
                                                       "disable_corrector": ()},
    "DEISMultistepScheduler": _LINSPACE | _SIGMAS | _FLOW | {"solver_order": 2, "lower_order_final": True,
                                                     "algorithm_type": "deis", "solver_type": "logrho"},
    "SASolverScheduler": _LINSPACE | _SIGMAS | _FLOW | {"predictor_order": 2, "corrector_order": 2,
                                                        "lower_order_final": True,
                                                        "algorithm_type": "data_prediction"},
}  # fmt: skip
ONLY: dict[str, tuple[Any, ...]] = {
    "interpolation_type": ("linear",), "timestep_type": ("discrete",),
    "timestep_spacing": ("leading", "trailing", "linspace"), "use_lu_lambdas": (False, True),
    "final_sigmas_type": ("zero", "sigma_min"), "prediction_type": tuple(PREDICTIONS_OF),
    "timestep_scaling": (10.0, 10), "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "disable_corrector": ((),), "use_dynamic_shifting": (False, None), "solver_p": (None,), "shift_terminal": (None,),
}  # fmt: skip
