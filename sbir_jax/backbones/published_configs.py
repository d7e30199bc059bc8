"""The published configs of models that are also had as one file, which has none.

Only what differs from the defaults of `models.unet_config` and `models.configs`.
"""

from typing import Any

Configs = dict[str, dict[str, Any]]

_VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
}
_SCHEDULE = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
_CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
}
_XL = {
    "sample_size": 128,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2],
    "up_block_types": [*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD1: Configs = {
    "unet": {"sample_size": 64, "attention_head_dim": 8, "cross_attention_dim": 768},
    "vae": _VAE,
    "text_encoder": _CLIP_L,
    "scheduler": _SCHEDULE,
}
# OpenCLIP's tower has one layer more, which is not run.
SD2: Configs = {
    "unet": {
        "sample_size": 96,
        "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
    },
    "vae": _VAE,
    "text_encoder": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 23,
        "hidden_act": "gelu",
    },
    "scheduler": {**_SCHEDULE, "prediction_type": "v_prediction"},
}
XL: Configs = {
    "unet": _XL,
    "vae": {**_VAE, "scaling_factor": 0.13025},
    "text_encoder": _CLIP_L,
    "text_encoder_2": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_attention_heads": 20,
        "num_hidden_layers": 32,
        "hidden_act": "gelu",
        "projection_dim": 1280,
    },
    "scheduler": _SCHEDULE,
}


def at_512(configs: Configs) -> Configs:
    """Those of Stable Diffusion 2.x's base, of smaller images and predicting noise."""
    unet = {**configs["unet"], "sample_size": 64}
    schedule = {**configs["scheduler"], "prediction_type": "epsilon"}
    return {**configs, "unet": unet, "scheduler": schedule}
