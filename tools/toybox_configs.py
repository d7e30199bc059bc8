"""Sizes of the Toybox model, as the configs of a diffusers folder."""

from tools.toybox_tokenizer import TOKENS

SIZE = 64  # pixels
# Twice Stable Diffusion's four: with those the colours of small things are lost here.
LATENTS = 8
CONTEXT = 128  # width of the text states

CONFIGS = {
    "vae": {
        "_class_name": "AutoencoderKL",
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": LATENTS,
        "block_out_channels": [16, 32, 64],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "act_fn": "silu",
        "sample_size": SIZE,
    },
    "unet": {
        "_class_name": "UNet2DConditionModel",
        "in_channels": LATENTS,
        "out_channels": LATENTS,
        "sample_size": SIZE // 4,
        "block_out_channels": [48, 96, 144, 192],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "layers_per_block": 1,
        "norm_num_groups": 12,
        "attention_head_dim": [2, 3, 4, 6],
        "cross_attention_dim": CONTEXT,
        "use_linear_projection": True,
        "act_fn": "silu",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "center_input_sample": False,
        "downsample_padding": 1,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-5,
    },
    "text_encoder": {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "hidden_size": CONTEXT,
        "intermediate_size": 4 * CONTEXT,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": TOKENS,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "projection_dim": CONTEXT,
    },
    "scheduler": {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "v_prediction",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    },
}
