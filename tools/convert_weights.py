#!/usr/bin/env python3
"""Turn a checkpoint into a GGUF file.

SOURCE is one of
  a Hugging Face folder        config.json with *.safetensors or pytorch_model*.bin, and a tokenizer
  a nanoGPT or minGPT .pt      (minGPT files do not say how many heads there are: --n-head)
  a llama2.c .bin              the legacy format and version 1; with --tokenizer tok.bin
  an llm.c .bin                GPT-2, versions 3 (float32) and 5 (bfloat16)
  a PEFT folder                adapter_config.json with adapter_model.safetensors or .bin: a LoRA adapter, to be loaded
                               beside its base model, whose config.json is needed: --base FOLDER

A model is converted exactly or not at all: what GGUF has no place for is refused in a line.

  hf download Qwen/Qwen3-0.6B --local-dir qwen3
  convert_weights.py qwen3 -o qwen3.gguf --type q8_0
"""
# Everything that decides the result is a row of ROWS (architectures) or of PRE (pre-tokenizers).

import argparse
import base64
import io
import json
import math
import os
import pickle
import re
import signal
import statistics
import struct
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

try:
    import gguf
    import numpy as np
    from gguf import MODEL_ARCH as A
    from gguf import GGMLQuantizationType as Q
    from tqdm import tqdm
except ImportError as e:
    sys.exit(f"convert_weights.py: error: {e}; pip install -r {Path(__file__).with_name('requirements.txt')}")
if not hasattr(A, "JAIS2"):
    sys.exit("convert_weights.py: error: the gguf package is older than 0.18; pip install -r "
             f"{Path(__file__).with_name('requirements.txt')}")


class Refused(Exception):
    """A one-line reason why the source cannot be converted."""


def say(text):
    """One line on stderr. A file's own text may be in it."""
    text = " ".join(str(text).split())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    tqdm.write(f"convert_weights.py: {text}", file=sys.stderr)


def note(text):
    say(f"note: {text}")


# ----------------------------------------------------------------------------------------------------------------
# Architectures
# ----------------------------------------------------------------------------------------------------------------
# Hugging Face has many names for one hyper-parameter; the rows below use the right-hand ones.
ALIASES = {
    "n_embd": "hidden_size", "n_embed": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads",
    "n_inner": "intermediate_size", "ffn_hidden_size": "intermediate_size", "n_positions": "max_position_embeddings",
    "seq_length": "max_position_embeddings", "num_kv_heads": "num_key_value_heads", "activation": "hidden_act",
    "activation_function": "hidden_act", "hidden_activation": "hidden_act", "layer_norm_epsilon": "norm_eps",
    "layer_norm_eps": "norm_eps", "norm_epsilon": "norm_eps", "rms_norm_eps": "norm_eps",
    "num_local_experts": "num_experts", "rotary_pct": "partial_rotary_factor", "rotary_dim": "rope_dim",
    "n_head_kv": "num_key_value_heads", "rotary_emb_base": "rope_theta",
    "shared_intermediate_size": "shared_expert_intermediate_size", "tie_embedding": "tie_word_embeddings",
    "conv_L_cache": "linear_conv_kernel_dim", "mamba_d_conv": "linear_conv_kernel_dim",
    "num_layers": "num_hidden_layers", "n_routed_experts": "num_experts", "moe_num_experts": "num_experts",
    "moe_k": "num_experts_per_tok", "moe_topk": "num_experts_per_tok", "n_shared_experts": "num_shared_experts",
    "moe_num_shared_experts": "num_shared_experts", "num_shared_expert": "num_shared_experts",
    "first_k_dense_replace": "num_dense_layers", "moe_layer_start_index": "num_dense_layers",
    "route_scale": "routed_scaling_factor", "route_norm": "norm_topk_prob", "top_k_experts": "num_experts_per_tok",
    "interleave_moe_layer_step": "moe_layer_interval", "attention_chunk_size": "sliding_window",
    "layers_block_type": "layer_types",
    "n_groups": "mamba_n_groups", "state_size": "mamba_d_state", "ssm_state_size": "mamba_d_state",
    "mamba_num_heads": "mamba_n_heads", "mamba_head_dim": "mamba_d_head", "conv_kernel": "linear_conv_kernel_dim",
    "use_conv_bias": "mamba_conv_bias", "mlp_hidden_act": "hidden_act", "attention_head_dim": "head_dim",
    "moe_shared_expert_intermediate_size": "shared_expert_intermediate_size", "score_function": "scoring_func",
    "moe_num_primary_experts": "num_experts", "moe_num_active_primary_experts": "num_experts_per_tok",
    "moe_ffn_hidden_size": "moe_intermediate_size", "sliding_window_size": "sliding_window",
}

# Shapes as rows,columns, `.` multiplies: V vocabulary, T context, D width, H query heads, G key/value heads,
# N = H + 2 G, K head size, F feed-forward width, E experts, M expert width, S shared expert width. Of convolutions: W
# taps; of delta nets: J key heads of Q numbers, U value heads of R, C = 2 J Q + U R channels; of Mamba-2: J groups of Q
# numbers, U heads of R, B = U R / J, the same C, and I = C + U R + U rows that read its input. Of latent attention: KV
# and QL the latents, KEY = KV and what turns, heads of QK for q, NO of them not turned, and of VAL for v. PL width of a
# layer's own input, O streams, Z all but the first, X rank of Laurel. Of T5: BUCKETS of distances.
# A bias drops the last extent.
SHAPES = {
    "token_embd": "V,D", "position_embd": "T,D", "token_embd_norm": "D", "output": "V,D", "output_norm": "D",
    "attn_norm": "D", "attn_norm_2": "D", "attn_qkv": "N.K,D", "attn_q": "H.K,D", "attn_k": "G.K,D", "attn_v": "G.K,D",
    "attn_output": "D,H.K", "attn_q_norm": "K", "attn_k_norm": "K", "attn_sinks": "H", "post_attention_norm": "D",
    "ffn_norm": "D", "post_ffw_norm": "D", "ffn_gate": "F,D", "ffn_up": "F,D", "ffn_down": "D,F", "ffn_gate_inp": "E,D",
    "ffn_gate_exps": "E,M,D", "ffn_up_exps": "E,M,D", "ffn_down_exps": "E,D,M", "ffn_gate_inp_shexp": "D",
    "ffn_gate_shexp": "S,D", "ffn_up_shexp": "S,D", "ffn_down_shexp": "D,S", "token_types": "Y,D",
    "attn_output_norm": "D", "layer_output_norm": "D", "dense_2": "A,D", "dense_3": "P,A", "exp_probs_b": "E,1",
    "shortconv.in_proj": "3.D,D", "shortconv.conv": "D,W", "shortconv.out_proj": "D,D", "attn_gate": "U.R,D",
    "ssm_alpha": "U,D", "ssm_beta": "U,D", "ssm_ba": "2.U,D", "ssm_a": "U", "ssm_dt": "U,1", "ssm_conv1d": "C,W",
    "ssm_norm": "R", "ssm_out": "D,U.R", "ssm_in": "I,D", "ssm_d": "U,1", "attn_kv_a_mqa": "KEY,D",
    "attn_kv_a_norm": "KV", "attn_k_b": "H,KV,NO", "attn_v_b": "H,VAL,KV", "attn_q_a": "QL,D", "attn_q_a_norm": "QL",
    "attn_q_b": "H.QK,QL",
    "per_layer_token_embd": "V,L.PL", "per_layer_model_proj": "L.PL,D", "per_layer_proj_norm": "PL", "inp_gate": "PL,D",
    "proj": "D,PL", "post_norm": "D", "layer_output_scale": "1", "post_ffw_norm_1": "D", "post_ffw_norm_2": "D",
    "pre_ffw_norm_2": "D", "ffn_gate_inp.scale": "D", "ffn_down_exps.scale": "E", "ffn_gate_up_exps": "E,2.M,D",
    "altup_proj": "Z,D,D", "altup_unembd_proj": "Z,D,D", "altup_router": "O,D", "altup_router_norm": "D",
    "altup_predict_coef": "O.O,O", "altup_correct_coef": "O,O", "altup_correct_scale": "D", "laurel_l": "X,D",
    "laurel_r": "D,X", "laurel_post_norm": "D",
    "cross_attn_norm": "D", "cross_attn_q": "H.K,D", "cross_attn_k": "H.K,D", "cross_attn_v": "H.K,D",
    "attn_o": "D,H.K", "cross_attn_o": "D,H.K", "attn_rel_b": "BUCKETS,H", "enc.output_norm": "D",
    "dec.output_norm": "D",
}


def extents(spec, d):
    return tuple(math.prod(int(x) if x.isdigit() else d[x] for x in e.split(".")) for e in spec.split(","))


SILU = ("silu", "swish")
RELU, RELU_2, XIELU = ("relu",), ("relu2",), ("xielu",)
TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_python_tanh")
ERF_GELU = ("gelu", "gelu_python")
# Tensors of a block: `+` with a bias, `*` a bias or none, `=` a bias, of zeros where the source has none (readers want
# one), `-` a bias of zeros or none, which is left out, `?` may be missing; `.bias` a bias without a weight, `!` a name
# with neither.
GPT_TOP, GPT_BLOCK = "output_norm+ output?", "attn_norm+ attn_qkv+ attn_output+ ffn_norm+ ffn_up+ ffn_down+"
QKV, NORMS, FFN = "attn_q attn_k attn_v attn_output", "attn_norm ffn_norm", "ffn_gate ffn_up ffn_down"
QKV_ANY, FFN_ANY = "attn_q* attn_k* attn_v* attn_output*", "ffn_gate* ffn_up* ffn_down*"
QKV_BIAS, QK_NORMS = "attn_q+ attn_k+ attn_v+", "attn_q_norm attn_k_norm"
LLAMA_BLOCK = f"{NORMS} {QKV_ANY} {FFN_ANY}"
EXPERTS = "ffn_gate_inp ffn_gate_exps ffn_up_exps ffn_down_exps"
SHARED = "ffn_gate_shexp ffn_up_shexp ffn_down_shexp"
# What reads along the sequence in architectures whose layers are of more than one kind.
SHORT_CONV, NORMED_QKV = "shortconv.in_proj shortconv.conv shortconv.out_proj", f"{QK_NORMS} {QKV}"
PLAIN_MAMBA = "ssm_in ssm_conv1d+ ssm_a! ssm_d! ssm_dt.bias ssm_out"
MAMBA = PLAIN_MAMBA + " ssm_norm"
DELTA = "attn_qkv attn_gate ssm_a! ssm_dt.bias ssm_conv1d ssm_norm ssm_out"
T5_SELF = "attn_norm attn_q attn_k attn_v attn_o attn_rel_b?"
GEMMA_BLOCK = f"attn_norm post_attention_norm ffn_norm post_ffw_norm {QKV} {FFN}"
# Layers with a cache of their own, with one of which values are keys, that read an earlier one's.
CACHES = {"own": "attn_k attn_v attn_k_norm", "tied": "attn_k attn_k_norm", "sharing": "attn_k? attn_v? attn_k_norm?"}
INPUT_TABLES, INPUTS = "per_layer_token_embd per_layer_model_proj per_layer_proj_norm", "inp_gate proj post_norm"


@dataclass(frozen=True)
class Row:
    hf: str                     # model_type values in config.json
    arch: A                     # its name prefixes the keys
    block: str                  # tensors of every block with their marks
    kinds: dict = field(default_factory=dict)   # what a layer may be -> the tensors that such layers have besides: a
                                # value of layer_types, and dense or sparse, of which num_dense_layers decides; own,
                                # tied or sharing, inputs and beside
    decoder: str = ""           # of every block of a decoder behind those, which are an encoder's
    top: str = "token_embd output_norm output?"
    norm: str = "rms"           # rms | layer
    act: tuple = SILU           # accepted activations, the first is the default
    rope: str = "half"          # none | half | pairs: as the weights are; swap: half-split weights written as pairs;
                                # swapped: likewise, but there is no rope (llama.cpp's converter does so, for nothing);
                                # alpha: half, an alpha raises the base; parts: half, text uses one of several angles
    multi_query: bool = False   # one key/value head unless config.json says otherwise
    sigmoid: bool = False       # the router takes sigmoids, not softmax
    fused: bool = False         # attn_qkv holds q, k, v per key/value head and is regrouped
    window: str = ""            # which layers have a sliding window: a name in WINDOWS; ! where one must be given,
                                # * where layer_types may say otherwise and are written
    plain_near: bool = False    # the rope of layers with a window has a base of its own and no scaling
    ops: dict = field(default_factory=dict)     # GGUF tensor -> OPS entry
    names: dict = field(default_factory=dict)   # HF name in a block -> ((GGUF tensor, op), ...) where the map has none
    shapes: dict = field(default_factory=dict)  # where SHAPES does not hold
    keys: dict = field(default_factory=dict)    # further GGUF keys -> config.json's; of a list, its length
    rope_keys: dict = field(default_factory=dict)   # the same with those of rope_parameters, which must have them
    fixed: dict = field(default_factory=dict)   # config.json keys and the values that are understood
    numbers: dict = field(default_factory=dict)     # HF name in a block, of one number -> GGUF key, a list over layers
    name: str = ""              # that of the architecture, where the gguf package has none and `arch` is one like it

    @property
    def called(self):
        return self.name or gguf.MODEL_ARCH_NAMES[self.arch]


WIDE_MOE_KEYS = {"expert_count": "num_experts", "expert_used_count": "num_experts_per_tok"}
MOE_KEYS = {**WIDE_MOE_KEYS, "expert_feed_forward_length": "moe_intermediate_size"}
SHARED_KEYS = {"expert_shared_feed_forward_length": "shared_expert_intermediate_size"}
ROUTER_KEYS = {**MOE_KEYS, "expert_shared_count": "num_shared_experts", "expert_weights_norm": "norm_topk_prob",
               "expert_weights_scale": "routed_scaling_factor", "leading_dense_block_count": "num_dense_layers"}
GROUP_KEYS = {**ROUTER_KEYS, "expert_group_count": "n_group", "expert_group_used_count": "topk_group"}
LATENT = "attn_norm ffn_norm attn_kv_a_mqa attn_kv_a_norm attn_k_b attn_v_b attn_output"
LATENT_Q = "attn_q_a attn_q_a_norm attn_q_b"
LATENT_SHAPES = {"attn_q": "H.QK,D", "attn_output": "D,H.VAL"}
LATENT_KEYS = {"attention.q_lora_rank": "q_lora_rank", "attention.kv_lora_rank": "kv_lora_rank",
               "attention.key_length_mla": "qk_head_dim", "attention.value_length_mla": "v_head_dim", **GROUP_KEYS}
LATENT_FIXED = {"attention_bias": (None, False), "mlp_bias": (None, False), "rope_interleave": (None, True),
                "moe_layer_freq": (None, 1)}
WIDE_EXPERTS = {"ffn_gate_exps": "E,F,D", "ffn_up_exps": "E,F,D", "ffn_down_exps": "E,D,F"}
HEAD_NORMS = {"attn_q_norm": "H,K", "attn_k_norm": "G,K"}
ALL_HEADS_NORMS = {"attn_q_norm": "H.K", "attn_k_norm": "G.K"}
PARALLEL = {"use_parallel_residual": "use_parallel_residual"}
GPT2_FIXED = {"scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,),
              "add_cross_attention": (False,)}
QWEN_FIXED = {"use_sliding_window": (False,)}
QWEN_MOE_FIXED = {**QWEN_FIXED, "decoder_sparse_step": (1,), "mlp_only_layers": (None, [])}
GEMMA_OPS = {n: "plus1" for n in ("output_norm", "attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm",
                                  "attn_q_norm", "attn_k_norm")}
DELTA_OPS = {"ssm_a": "minus_exp", "ssm_conv1d": "squeeze",
             **{n: "plus1" for n in ("output_norm", "attn_norm", "post_attention_norm", "attn_q_norm", "attn_k_norm")}}
# Readers of Qwen 3.5 pair value head i with key head i modulo their number.
TILED_OPS = {**DELTA_OPS, "ssm_a": "minus_exp_tiled", "ssm_conv1d": "squeeze_tiled", "attn_qkv": "tiled_values",
             "attn_gate": "tiled", "ssm_alpha": "tiled_numbers", "ssm_beta": "tiled_numbers",
             "ssm_out": "tiled_columns"}
DELTA_SHAPES = {"attn_q": "2.H.K,D", "attn_qkv": "C,D", "ffn_gate_inp_shexp": "1,D"}
DELTA_KEYS = {"ssm.conv_kernel": "linear_conv_kernel_dim", "ssm.state_size": "linear_key_head_dim",
              "ssm.group_count": "linear_num_key_heads", "ssm.time_step_rank": "linear_num_value_heads",
              "full_attention_interval": "full_attention_interval"}
DELTA_FIXED = {**QWEN_FIXED, "attention_bias": (False,), "attn_output_gate": (True,)}
DELTA_MOE_FIXED = {**DELTA_FIXED, **QWEN_MOE_FIXED}
GEMMA_FIXED = {"use_bidirectional_attention": (None, False), "attention_bias": (False,)}
GEMMA4_NAMES = {
    "layer_scalar": (("layer_output_scale.weight", "same"),), "router.scale": (("ffn_gate_inp.scale", "same"),),
    "router.per_expert_scale": (("ffn_down_exps.scale", "same"),),
    "experts.gate_up_proj": (("ffn_gate_up_exps.weight", "same"),),
    "experts.down_proj": (("ffn_down_exps.weight", "same"),)}
GEMMA3N_NAMES = {"altup.correct_output_scale": (("altup_correct_scale.weight", "same"),)}
SHARING_KEYS = {"embedding_length_per_layer_input": "hidden_size_per_layer_input", "final_logit_softcapping":
                "final_logit_softcapping", "attention.shared_kv_layers": "num_kv_shared_layers"}
GRANITE_KEYS = {"attention.scale": "attention_multiplier", "embedding_scale": "embedding_multiplier",
                "residual_scale": "residual_multiplier", "logit_scale": "logits_scaling"}
DEEPSTACK = {"n_deepstack_layers": "vision_config.deepstack_visual_indexes"}
DEEPSTACK_DEFAULT = {"vision_config.deepstack_visual_indexes": [8, 16, 24]}
# Experts as transformers keeps them in memory.
STACKED = {
    "mlp.experts.gate_up_proj": (("ffn_gate_exps.weight", "first_half"), ("ffn_up_exps.weight", "second_half")),
    "mlp.experts.down_proj": (("ffn_down_exps.weight", "same"),)}
DELTA_NAMES = {**STACKED, "linear_attn.dt_bias": (("ssm_dt.bias", "same"),), "linear_attn.in_proj_qkvz.weight": (
    ("attn_qkv.weight", "qkv_of_qkvz"), ("attn_gate.weight", "z_of_qkvz"))}
TILED_NAMES = {**STACKED, "linear_attn.dt_bias": (("ssm_dt.bias", "tiled_numbers"),)}
LFM2_NAMES = {**{k.replace("mlp", "feed_forward"): v for k, v in STACKED.items()},
              "feed_forward.expert_bias": (("exp_probs_b.bias", "same"),)}
# Biases for choosing experts.
ROUTER_NAMES = {
    **STACKED, **{n: (("exp_probs_b.bias", "same"),) for n in (
        "mlp.gate.e_score_correction_bias", "mlp.e_score_correction_bias", "mlp.expert_bias", "mlp.gate.expert_bias",
        "block_sparse_moe.e_score_correction_bias")},
    **{k.replace("mlp", "block_sparse_moe"): v for k, v in STACKED.items()},
    "mlp.moe_statics.e_score_correction_bias": (("exp_probs_b.bias", "same"),)}
BAILING = dict(block="attn_norm ffn_norm attn_q_norm attn_k_norm attn_qkv attn_output", kinds={
    "dense": FFN, "sparse": f"{EXPERTS} {SHARED} exp_probs_b.bias"}, sigmoid=True, names=ROUTER_NAMES,
    keys={**GROUP_KEYS, **SHARED_KEYS})
BAILING_FIXED = {"scoring_func": (None, "sigmoid"), "use_qk_norm": (None, True), "use_qkv_bias": (None, False),
                 "use_bias": (None, False), "attention_bias": (None, False), "norm_head": (None, False),
                 "moe_router_enable_expert_bias": (None, True)}
LATENT_NAMES = {**ROUTER_NAMES, "self_attn.kv_b_proj.weight": (
    ("attn_k_b.weight", "latent_keys"), ("attn_v_b.weight", "latent_values"))}
GRANITE_NAMES = {
    **{k.replace("mlp", "block_sparse_moe"): v for k, v in STACKED.items()},
    "block_sparse_moe.input_linear.weight": STACKED["mlp.experts.gate_up_proj"],
    "block_sparse_moe.output_linear.weight": STACKED["mlp.experts.down_proj"],
    "block_sparse_moe.router.layer.weight": (("ffn_gate_inp.weight", "same"),),
    "shared_mlp.input_linear.weight": (("ffn_gate_shexp.weight", "first_half"), ("ffn_up_shexp.weight", "second_half")),
    "shared_mlp.output_linear.weight": (("ffn_down_shexp.weight", "same"),)}
MAMBA_NAMES = {**GRANITE_NAMES, "mamba.dt_bias": (("ssm_dt.bias", "same"),), "mamba.A_log": (
    ("ssm_a", "minus_exp_column"),), "mamba.D": (("ssm_d", "column"),)}
MAMBA_FFN_NAMES = {**MAMBA_NAMES, "shared_mlp.input_linear.weight": (
    ("ffn_gate.weight", "first_half"), ("ffn_up.weight", "second_half")),
    "shared_mlp.output_linear.weight": (("ffn_down.weight", "same"),)}
MIXER_NAMES = {"mixer.dt_bias": (("ssm_dt.bias", "same"),), "mixer.A_log": (("ssm_a", "minus_exp_column"),),
               "mixer.D": (("ssm_d", "column"),),
               "mixer.gate.e_score_correction_bias": (("exp_probs_b.bias", "same"),),
               "mixer.gate.e_score_correction.bias": (("exp_probs_b.bias", "same"),),
               "mixer.experts.up_proj": (("ffn_up_exps.weight", "same"),),
               "mixer.experts.down_proj": (("ffn_down_exps.weight", "same"),)}
MAMBA_OPS = {"ssm_conv1d": "squeeze", "ssm_norm": "groups"}
MAMBA_SHAPES = {"ssm_a": "U,1", "ssm_norm": "J,B"}
STATE_KEYS = {"ssm.conv_kernel": "linear_conv_kernel_dim", "ssm.state_size": "mamba_d_state", "ssm.group_count":
              "mamba_n_groups", "ssm.time_step_rank": "mamba_n_heads"}
MAMBA_KEYS = {**STATE_KEYS, **SHARED_KEYS, **GRANITE_KEYS, **WIDE_MOE_KEYS}
NEMOTRON_KEYS = {**STATE_KEYS, "attention.layer_norm_epsilon": "norm_eps"}
STATE_FIXED = {"mamba_conv_bias": (True,), "mamba_proj_bias": (False,), "use_bias": (False,),
               "mamba_hidden_act": ("silu",), "attention_bias": (False,), "mlp_bias": (False,),
               "projectors_bias": (False,)}
MAMBA_FIXED = {"mamba_n_groups": (1,), "mamba_conv_bias": (True,), "mamba_proj_bias": (False,),
               "attention_bias": (False,)}
# Published the other way round than transformers has them, and saves them: the shape tells.
TURNED = {
    "mlp.experts.gate_up_proj": (("ffn_gate_exps.weight", "first_half_out|first_half"),
                                 ("ffn_up_exps.weight", "second_half_out|second_half")),
    "mlp.experts.down_proj": (("ffn_down_exps.weight", "out|same"),)}
LLAMA4_NAMES = {
    "feed_forward.experts.gate_up_proj": (("ffn_gate_exps.weight", "first_half_out"),
                                          ("ffn_up_exps.weight", "second_half_out")),
    "feed_forward.experts.down_proj": (("ffn_down_exps.weight", "out"),)}
INTERNLM_NAMES = {"attention.wqkv.weight": tuple((f"attn_{x}.weight", f"{x}_of_groups") for x in "qkv")}
BAICHUAN_NAMES = {"self_attn.W_pack.weight": tuple((f"attn_{x}.weight", f"{x}_of_stack") for x in "qkv")}
XIELU_NUMBERS = {f"mlp.act_fn.{x}": f"xielu.{x}" for x in ("alpha_n", "alpha_p", "beta", "eps")}
OSS_NAMES = {
    "mlp.experts.gate_up_proj": (("ffn_gate_exps.weight", "even_out"), ("ffn_up_exps.weight", "odd_out")),
    "mlp.experts.gate_up_proj_bias": (("ffn_gate_exps.bias", "even"), ("ffn_up_exps.bias", "odd")),
    "mlp.experts.down_proj": (("ffn_down_exps.weight", "out"),),
    "mlp.experts.down_proj_bias": (("ffn_down_exps.bias", "same"),)}

ROWS = [
    Row("gpt2", A.GPT2, GPT_BLOCK, top="token_embd position_embd " + GPT_TOP, norm="layer", rope="none",
        act=TANH_GELU + ERF_GELU, fixed=GPT2_FIXED,
        ops={n: "transpose" for n in ("attn_qkv", "attn_output", "ffn_up", "ffn_down")}),
    Row("gpt_bigcode", A.STARCODER, GPT_BLOCK, top="token_embd position_embd " + GPT_TOP, norm="layer", rope="none",
        act=TANH_GELU + ERF_GELU, fused=True, multi_query=True, fixed=GPT2_FIXED),
    Row("gpt_neox", A.GPTNEOX, GPT_BLOCK, top="token_embd " + GPT_TOP, norm="layer", act=ERF_GELU + TANH_GELU,
        fused=True, keys=PARALLEL, fixed={"attention_bias": (True,)}),
    Row("gptj", A.GPTJ, f"attn_norm+ {QKV} ffn_up+ ffn_down+", top="token_embd output_norm+ output?+", norm="layer",
        rope="pairs", act=TANH_GELU + ERF_GELU),
    Row("bloom", A.BLOOM, GPT_BLOCK, top="token_embd token_embd_norm+ " + GPT_TOP, norm="layer", rope="none",
        act=TANH_GELU, fused=True, keys={"attention.max_alibi_bias": "max_alibi_bias"},
        fixed={"apply_residual_connection_post_layernorm": (False,)}),
    Row("falcon", A.FALCON, "attn_norm+ attn_norm_2?+ attn_qkv attn_output ffn_up ffn_down",
        top="token_embd " + GPT_TOP, norm="layer", act=ERF_GELU, fused=True, multi_query=True,
        fixed={"alibi": (False,), "parallel_attn": (True,), "bias": (False,)}),
    Row("starcoder2", A.STARCODER2, "attn_norm+ ffn_norm+ attn_q= attn_k= attn_v= attn_output= ffn_up= ffn_down=",
        top="token_embd " + GPT_TOP, norm="layer", act=TANH_GELU + ERF_GELU, window="all"),
    Row("stablelm", A.STABLELM, "attn_norm+ ffn_norm?+ attn_q_norm? attn_k_norm? attn_q* attn_k* attn_v* attn_output "
        + FFN, top="token_embd " + GPT_TOP, norm="layer", shapes=HEAD_NORMS,
        keys=PARALLEL),
    Row("phi", A.PHI2, f"attn_norm+ {QKV_BIAS} attn_output+ ffn_up+ ffn_down+", top="token_embd output_norm+ output?+",
        norm="layer", act=TANH_GELU + ERF_GELU, fixed={"qk_layernorm": (False,)}),
    Row("phi3", A.PHI3, "attn_norm attn_qkv attn_output ffn_norm ffn_up ffn_down", window="all",
        shapes={"ffn_up": "2.F,D"}),
    Row("llama", A.LLAMA, LLAMA_BLOCK, rope="swap"),
    Row("internlm3", A.LLAMA, LLAMA_BLOCK, rope="swap"),
    Row("iquestcoder", A.LLAMA, LLAMA_BLOCK, rope="swap", fixed={"clip_qkv": (None,), "use_sliding_window": (
        None, False)}),
    Row("mistral", A.LLAMA, LLAMA_BLOCK, rope="swap", window="all"),
    Row("llama4_text llama4", A.LLAMA4, f"{NORMS} {QKV}", rope="pairs", names=LLAMA4_NAMES, window="3of4!",
        kinds={"dense": FFN, "sparse": f"{EXPERTS} {SHARED}"}, keys={
            **MOE_KEYS, "interleave_moe_layer_step": "moe_layer_interval",
            "attention.temperature_length": "floor_scale", "attention.temperature_scale": "attn_scale"},
        fixed={"attention_bias": (False,), "attn_temperature_tuning": (True, 4)}),
    Row("apertus", A.APERTUS, f"{NORMS} {QK_NORMS} {QKV} ffn_up ffn_down", act=XIELU, numbers=XIELU_NUMBERS,
        fixed={"qk_norm": (True,), "post_norm": (False,), "attention_bias": (False,), "mlp_bias": (False,)}),
    Row("internlm2", A.INTERNLM2, f"{NORMS} {QKV} {FFN}", top="token_embd output_norm output", rope="swap",
        names=INTERNLM_NAMES, fixed={"bias": (False,)}),
    Row("baichuan", A.BAICHUAN, f"{NORMS} {QKV} {FFN}", top="token_embd output_norm output", rope="swap",
        names=BAICHUAN_NAMES),
    Row("minicpm", A.MINICPM, f"{NORMS} {QKV} {FFN}", rope="swap", fixed={"num_experts": (None, 0)}, keys={
        k: v for k, v in GRANITE_KEYS.items() if k != "attention.scale"}),
    Row("ministral3", A.MISTRAL3, f"{NORMS} {QKV} {FFN}", rope="swap", window="all", rope_keys={
        "attention.temperature_scale": "llama_4_scaling_beta", "rope.scaling.yarn_log_multiplier": "mscale_all_dim"}),
    Row("mixtral", A.LLAMA, f"{NORMS} {QKV} {EXPERTS}", rope="swap", window="all", names=STACKED,
        shapes=WIDE_EXPERTS, keys=WIDE_MOE_KEYS),
    Row("qwen2 dots_ocr", A.QWEN2, f"{NORMS} {QKV_BIAS} attn_output {FFN}", fixed=QWEN_FIXED),
    Row("qwen2_moe", A.QWEN2MOE, f"{NORMS} attn_q= attn_k= attn_v= attn_output {EXPERTS} "
        f"ffn_gate_inp_shexp {SHARED}", names=STACKED,
        ops={"ffn_gate_inp_shexp": "flatten"}, fixed={**QWEN_MOE_FIXED, "norm_topk_prob": (False,)},
        keys={**MOE_KEYS, **SHARED_KEYS}),
    Row("qwen2_vl qwen2_5_vl", A.QWEN2VL, f"{NORMS} {QKV_BIAS} attn_output {FFN}", rope="parts", fixed=QWEN_FIXED),
    Row("qwen3", A.QWEN3, f"{NORMS} {QK_NORMS} {QKV} {FFN}", fixed=QWEN_FIXED),
    Row("qwen3_vl", A.QWEN3VL, f"{NORMS} {QK_NORMS} {QKV} {FFN}", rope="parts", keys=DEEPSTACK, fixed=QWEN_FIXED),
    Row("qwen3_moe", A.QWEN3MOE, f"{NORMS} {QK_NORMS} {QKV} {EXPERTS}", names=STACKED, keys=MOE_KEYS,
        fixed={**QWEN_MOE_FIXED, "norm_topk_prob": (True,)}),
    Row("mellum", A.QWEN3MOE, f"{NORMS} {QK_NORMS} {QKV} {EXPERTS}", name="mellum", window="*", plain_near=True,
        names=STACKED, keys=MOE_KEYS, fixed={"attention_bias": (False,), "norm_topk_prob": (True,)}),
    Row("qwen3_vl_moe", A.QWEN3VLMOE, f"{NORMS} {QK_NORMS} {QKV} {EXPERTS}", rope="parts", names=TURNED,
        keys={**MOE_KEYS, **DEEPSTACK}, fixed={**QWEN_MOE_FIXED, "norm_topk_prob": (True,)}),
    Row("qwen3_5 qwen3_5_text", A.QWEN35, f"attn_norm post_attention_norm {FFN}", rope="parts", ops=TILED_OPS,
        kinds={"linear_attention": f"{DELTA} ssm_alpha ssm_beta", "full_attention": NORMED_QKV}, names=TILED_NAMES,
        shapes=DELTA_SHAPES, keys=DELTA_KEYS, fixed=DELTA_FIXED),
    Row("qwen3_5_moe qwen3_5_moe_text", A.QWEN35MOE, "attn_norm post_attention_norm "
        f"{EXPERTS} ffn_gate_inp_shexp {SHARED}", rope="parts", ops=TILED_OPS, names=TILED_NAMES,
        kinds={"linear_attention": f"{DELTA} ssm_alpha ssm_beta", "full_attention": NORMED_QKV},
        shapes=DELTA_SHAPES, keys={**DELTA_KEYS, **MOE_KEYS, **SHARED_KEYS}, fixed=DELTA_MOE_FIXED),
    Row("qwen3_next", A.QWEN3NEXT, f"attn_norm post_attention_norm {EXPERTS} ffn_gate_inp_shexp {SHARED}",
        kinds={"linear_attention": f"{DELTA} ssm_ba", "full_attention": NORMED_QKV}, rope="parts", ops=DELTA_OPS,
        names=DELTA_NAMES, shapes=DELTA_SHAPES, keys={**DELTA_KEYS, **MOE_KEYS, **SHARED_KEYS},
        fixed={**DELTA_MOE_FIXED, "norm_topk_prob": (True,)}),
    Row("lfm2", A.LFM2, f"{NORMS} {FFN}", top="token_embd token_embd_norm output?", names=LFM2_NAMES,
        kinds={"conv": SHORT_CONV, "full_attention": NORMED_QKV}, ops={"shortconv.conv": "squeeze"},
        keys={"shortconv.l_cache": "linear_conv_kernel_dim"}, fixed={    # Lfm2BidirectionalModel looks both ways
            "conv_bias": (False,), "architectures": (None, ["Lfm2ForCausalLM"], ["LFM2ForCausalLM"], ["Lfm2Model"])}),
    Row("lfm2_moe", A.LFM2MOE, NORMS, top="token_embd token_embd_norm output?", names=LFM2_NAMES,
        kinds={"conv": SHORT_CONV, "full_attention": NORMED_QKV, "dense": FFN,
               "sparse": f"{EXPERTS} exp_probs_b.bias?"}, ops={"shortconv.conv": "squeeze"},
        sigmoid=True, keys={"shortconv.l_cache": "linear_conv_kernel_dim", "leading_dense_block_count":
                            "num_dense_layers", **MOE_KEYS},
        fixed={"conv_bias": (False,), "norm_topk_prob": (True,), "routed_scaling_factor": (1.0,)}),
    Row("hunyuan_v1_moe", A.HUNYUAN_MOE, f"{NORMS} {QK_NORMS} {QKV} {EXPERTS} {SHARED}", rope="alpha", names={
        **STACKED, "mlp.gate.wg.weight": (("ffn_gate_inp.weight", "same"),)},
        keys={**MOE_KEYS, **SHARED_KEYS, "expert_shared_count": "num_shared_experts"}),
    Row("hunyuan_v1_dense", A.HUNYUAN_DENSE, f"{NORMS} {QK_NORMS} {QKV} {FFN}", rope="alpha"),
    Row("seed_oss", A.SEED_OSS, f"attn_norm post_attention_norm attn_q= attn_k= attn_v= attn_output {FFN}"),
    Row("ernie4_5", A.ERNIE4_5, f"{NORMS} {QKV} {FFN}", rope="pairs"),
    Row("ernie4_5_moe", A.ERNIE4_5_MOE, f"{NORMS} {QKV}", rope="pairs", names=ROUTER_NAMES,
        kinds={"dense": FFN, "sparse": f"{EXPERTS} {SHARED} exp_probs_b.bias?"}, shapes={"exp_probs_b": "1,E,1"},
        keys={**MOE_KEYS, **SHARED_KEYS, "expert_shared_count": "num_shared_experts", "leading_dense_block_count":
              "num_dense_layers", "interleave_moe_layer_step": "moe_layer_interval"},
        fixed={"use_bias": (False,), "moe_layer_interval": (1,)}),
    Row("glm4_moe solar_open", A.GLM4_MOE, "attn_norm post_attention_norm attn_q_norm? attn_k_norm? attn_q* attn_k* "
        "attn_v* attn_output", names=ROUTER_NAMES, sigmoid=True, keys=GROUP_KEYS,
        kinds={"dense": FFN, "sparse": f"{EXPERTS} {SHARED} exp_probs_b.bias"}),
    Row("minimax_m2", A.MINIMAXM2, f"{NORMS} {QK_NORMS} {QKV} {EXPERTS} exp_probs_b.bias", names=ROUTER_NAMES,
        sigmoid=True, shapes={**WIDE_EXPERTS, **ALL_HEADS_NORMS}, keys={
            **WIDE_MOE_KEYS, "expert_feed_forward_length": "intermediate_size"}, fixed={
            "scoring_func": (None, "sigmoid"), "use_qk_norm": (True,), "qk_norm_type": (None, "per_layer"),
            "use_routing_bias": (True,)}),
    *(Row(f"deepseek_v2{end}", A.DEEPSEEK2, f"{LATENT} {q}", rope="pairs", names=LATENT_NAMES, shapes=LATENT_SHAPES,
          keys=LATENT_KEYS, kinds={"dense": FFN, "sparse": f"{EXPERTS} {SHARED}"}, fixed={
              **LATENT_FIXED, "norm_topk_prob": (None, False), "scoring_func": (None, "softmax"),
              "topk_method": ("greedy", "group_limited_greedy")}) for end, q in (("", LATENT_Q), ("_lite", "attn_q"))),
    *(Row(hf, A.DEEPSEEK2, f"{LATENT} {q}", rope="pairs", names=LATENT_NAMES, shapes=LATENT_SHAPES, sigmoid=True,
          keys=LATENT_KEYS, kinds={"dense": FFN, "sparse": f"{EXPERTS} {SHARED} exp_probs_b.bias"}, fixed={
              **LATENT_FIXED, "scoring_func": (None, "sigmoid"), "topk_method": (None, "noaux_tc")})
      for hf, q in (("deepseek_v3 kimi_k2 glm4_moe_lite", LATENT_Q),
                    ("deepseek_v3_lite glm4_moe_lite_lite", "attn_q"))),
    *(Row(f"youtu{end}", A.DEEPSEEK2, f"{LATENT} {q} {FFN}", rope="pairs", names=LATENT_NAMES, shapes=LATENT_SHAPES,
          keys={**LATENT_KEYS, "expert_feed_forward_length": "intermediate_size", "leading_dense_block_count":
                "num_hidden_layers"}, fixed=LATENT_FIXED) for end, q in (("", LATENT_Q), ("_lite", "attn_q"))),
    Row("dots1", A.DOTS1, f"{NORMS} {QK_NORMS} {QKV}", names=ROUTER_NAMES, sigmoid=True, keys=GROUP_KEYS,
        kinds={"dense": FFN, "sparse": f"{EXPERTS} {SHARED} exp_probs_b.bias"},
        fixed={"attention_bias": (False,), "scoring_func": (None, "sigmoid")}),
    Row("bailing_moe", A.BAILINGMOE2, **BAILING, fixed={     # other architectures have this name too
        **BAILING_FIXED, "architectures": (None, ["BailingMoeV2ForCausalLM"])}),
    Row("sarvam_moe", A.BAILINGMOE2, **{**BAILING, "names": {**ROUTER_NAMES, "mlp.gate.expert_bias": (
        ("exp_probs_b.bias", "centred"),)}}, fixed=BAILING_FIXED),
    Row("smallthinker", A.SMALLTHINKER, f"{NORMS} {QKV} {EXPERTS}", act=RELU, sigmoid=True, window="gwww",
        keys=MOE_KEYS, fixed={"use_qk_norm": (False,), "moe_enable_early_router": (True,), "moe_shared_primary_experts":
                              (0,), "moe_enable_secondary_experts": (False,)}),
    Row("afmoe", A.AFMOE, f"attn_norm post_attention_norm ffn_norm post_ffw_norm {QK_NORMS} {QKV} attn_gate",
        names=ROUTER_NAMES, sigmoid=True, window="3of4!", shapes={"attn_gate": "H.K,D"}, keys=ROUTER_KEYS,
        kinds={"dense": FFN, "sparse": f"{EXPERTS} {SHARED} exp_probs_b.bias"}, fixed={
            "score_func": (None, "sigmoid"), "mup_enabled": (True,), "global_attn_every_n_layers": (4,),
            "attention_bias": (False,), "n_group": (None, 1), "topk_group": (None, 1)}),
    Row("glm4", A.GLM4, "attn_norm attn_q= attn_k= attn_v= attn_output post_attention_norm ffn_norm ffn_up ffn_down "
        "post_ffw_norm", rope="pairs", names={"mlp.gate_up_proj.weight": (("ffn_up.weight", "same"),)},
        shapes={"ffn_up": "2.F,D"}),
    Row("arcee", A.ARCEE, f"{NORMS} {QKV} ffn_up ffn_down", act=RELU_2, rope="swap"),
    Row("nemotron", A.NEMOTRON, f"attn_norm+ ffn_norm+ {QKV_ANY} ffn_up* ffn_down*", top="token_embd " + GPT_TOP,
        norm="layer", act=RELU_2, ops={n: "plus1" for n in ("output_norm", "attn_norm", "ffn_norm")}),
    Row("jais2", A.JAIS2, "attn_norm+ ffn_norm+ attn_q= attn_k= attn_v= attn_output= ffn_up= ffn_down=",
        top="token_embd " + GPT_TOP, norm="layer", act=RELU_2),
    Row("gemma", A.GEMMA, f"{NORMS} {QKV} {FFN}", act=TANH_GELU + ERF_GELU, ops=GEMMA_OPS, fixed=GEMMA_FIXED),
    Row("gemma2", A.GEMMA2, GEMMA_BLOCK, act=TANH_GELU, window="even",
        keys={n: n for n in ("attn_logit_softcapping", "final_logit_softcapping")}, ops=GEMMA_OPS, fixed=GEMMA_FIXED),
    Row("gemma3_text gemma3", A.GEMMA3, f"{GEMMA_BLOCK} {QK_NORMS}", act=TANH_GELU,
        window="5of6", plain_near=True, ops=GEMMA_OPS, fixed={**GEMMA_FIXED, "attn_logit_softcapping": (None,)},
        keys={"final_logit_softcapping": "final_logit_softcapping"}),
    Row("gemma3n_text gemma3n", A.GEMMA3N, f"attn_norm post_attention_norm ffn_norm post_ffw_norm attn_q_norm attn_q "
        f"attn_output {FFN} altup_router altup_router_norm altup_predict_coef altup_correct_coef altup_correct_scale "
        f"laurel_l laurel_r laurel_post_norm", act=TANH_GELU, window="4of5!*", plain_near=True, names=GEMMA3N_NAMES,
        top=f"token_embd output_norm output? {INPUT_TABLES} altup_proj altup_unembd_proj",
        kinds={**CACHES, "inputs": INPUTS}, ops={"token_embd": "padded", "per_layer_token_embd": "padded"},
        keys={**SHARING_KEYS, "altup.num_inputs": "altup_num_inputs", "altup.active_idx": "altup_active_idx"},
        fixed={"attention_bias": (False,), "altup_active_idx": (0,), "altup_num_inputs": (4,),
               "altup_correct_scale": (True,)}),
    Row("gemma4_text gemma4 gemma4_unified_text gemma4_unified", A.GEMMA4, "attn_norm post_attention_norm ffn_norm "
        f"post_ffw_norm attn_q_norm attn_q attn_output {FFN} layer_output_scale", act=TANH_GELU, window="5of6!*",
        plain_near=True, names=GEMMA4_NAMES,
        top="token_embd output_norm output? " + INPUT_TABLES.replace(" ", "? ") + "?", kinds={
            **CACHES, "inputs": INPUTS, "beside": "post_ffw_norm_1 post_ffw_norm_2 pre_ffw_norm_2 ffn_gate_inp "
            "ffn_gate_inp.scale! ffn_gate_up_exps ffn_down_exps ffn_down_exps.scale!"},
        keys={**SHARING_KEYS, **MOE_KEYS}, fixed={
            "attention_bias": (False,), "use_bidirectional_attention": (None, "vision")}),
    Row("olmo", A.OLMO, f"{QKV} {FFN}", top="token_embd output?", norm="layer", rope="swap",
        keys={"attention.clamp_kqv": "clip_qkv"}),
    Row("olmo2", A.OLMO2, f"post_attention_norm post_ffw_norm {QK_NORMS} {QKV} {FFN}",
        shapes=ALL_HEADS_NORMS),
    Row("olmo3", A.OLMO2, f"post_attention_norm post_ffw_norm {QK_NORMS} {QKV} {FFN}", window="3of4!*",
        plain_near=True, shapes=ALL_HEADS_NORMS),
    Row("olmoe", A.OLMOE, f"{NORMS} {QK_NORMS} {QKV} {EXPERTS}", top="token_embd output_norm output", names=STACKED,
        shapes={**WIDE_EXPERTS, **ALL_HEADS_NORMS}, keys=WIDE_MOE_KEYS,
        fixed={"clip_qkv": (None,), "norm_topk_prob": (False,)}),
    Row("exaone", A.EXAONE, f"{NORMS} {QKV} {FFN}", fixed={"attention_bias": (False,), "mlp_bias": (False,)}),
    Row("exaone_moe", A.EXAONE_MOE, f"{NORMS} {QK_NORMS} {QKV}", names=ROUTER_NAMES, sigmoid=True, window="3of4*",
        kinds={"dense": FFN, "sparse": f"{EXPERTS} {SHARED} exp_probs_b.bias"}, keys={**GROUP_KEYS, **SHARED_KEYS},
        fixed={"scoring_func": (None, "sigmoid")}),
    Row("exaone4", A.EXAONE4, f"post_attention_norm post_ffw_norm {QK_NORMS} {QKV} {FFN}", window="3of4*"),
    Row("granite", A.GRANITE, f"{NORMS} {QKV_ANY} {FFN_ANY}", rope="swap", keys=GRANITE_KEYS),
    Row("granitemoe", A.GRANITE_MOE, f"{NORMS} {QKV_ANY} {EXPERTS}", rope="swap", names=GRANITE_NAMES,
        shapes=WIDE_EXPERTS, keys={**WIDE_MOE_KEYS, **GRANITE_KEYS}),
    Row("granitemoeshared", A.GRANITE_MOE, f"{NORMS} {QKV_ANY} {EXPERTS} {SHARED}", rope="swap", names=GRANITE_NAMES,
        shapes=WIDE_EXPERTS, keys={**WIDE_MOE_KEYS, **SHARED_KEYS, **GRANITE_KEYS}),
    Row("granitemoehybrid", A.GRANITE_HYBRID, f"{NORMS} {EXPERTS} {SHARED}", rope="swap", names=MAMBA_NAMES,
        kinds={"mamba": MAMBA, "attention": QKV}, ops=MAMBA_OPS, keys=MAMBA_KEYS, fixed=MAMBA_FIXED,
        shapes={**WIDE_EXPERTS, **MAMBA_SHAPES}),
    Row("granitehybrid_dense", A.GRANITE_HYBRID, f"{NORMS} {FFN}", rope="swap", names=MAMBA_FFN_NAMES,
        kinds={"mamba": MAMBA, "attention": QKV}, ops=MAMBA_OPS, keys=MAMBA_KEYS, fixed=MAMBA_FIXED,
        shapes={**MAMBA_SHAPES, "ffn_gate": "S,D", "ffn_up": "S,D", "ffn_down": "D,S"}),
    Row("mamba2", A.MAMBA2, f"attn_norm {MAMBA}", rope="none", names=MIXER_NAMES, ops=MAMBA_OPS, keys=STATE_KEYS,
        fixed=STATE_FIXED, shapes=MAMBA_SHAPES),
    Row("nemotron_h", A.NEMOTRON_H, "attn_norm", rope="swapped", act=RELU_2, names=MIXER_NAMES, ops=MAMBA_OPS,
        kinds={"mamba": MAMBA, "attention": QKV, "mlp": "ffn_up ffn_down"}, keys=NEMOTRON_KEYS, fixed=STATE_FIXED,
        shapes=MAMBA_SHAPES),
    Row("nemotron_h_moe", A.NEMOTRON_H_MOE, "attn_norm", rope="swapped", act=RELU_2, names=MIXER_NAMES, ops=MAMBA_OPS,
        kinds={"mamba": MAMBA, "attention": QKV, "moe": "ffn_gate_inp ffn_up_exps ffn_down_exps ffn_up_shexp "
               "ffn_down_shexp exp_probs_b.bias"}, keys={**NEMOTRON_KEYS, **GROUP_KEYS, **SHARED_KEYS},
        fixed={**STATE_FIXED, "moe_latent_size": (None,)}, shapes=MAMBA_SHAPES),
    Row("falcon_h1", A.FALCON_H1, f"attn_norm ffn_norm! {QKV} {PLAIN_MAMBA} {FFN}", names=MAMBA_NAMES, ops=MAMBA_OPS,
        keys=STATE_KEYS, fixed=STATE_FIXED, shapes=MAMBA_SHAPES),
    Row("falcon_h1_norm", A.FALCON_H1, f"attn_norm ffn_norm! {QKV} {MAMBA} {FFN}", names=MAMBA_NAMES, ops=MAMBA_OPS,
        keys=STATE_KEYS, fixed={**STATE_FIXED, "mamba_norm_before_gate": (False,)}, shapes=MAMBA_SHAPES),
    Row("smollm3", A.SMOLLM3, f"{NORMS} {QKV} {FFN}", rope="swap", fixed=QWEN_FIXED),
    Row("cohere", A.COMMAND_R, f"attn_norm attn_q_norm? attn_k_norm? {QKV} {FFN}", norm="layer", rope="pairs",
        shapes=HEAD_NORMS, keys={"logit_scale": "logit_scale"}),
    Row("cohere2", A.COHERE2, "attn_norm- attn_q- attn_k- attn_v- attn_output- ffn_gate- ffn_up- ffn_down-",
        top="token_embd output_norm-", norm="layer", rope="pairs", window="3of4!", keys={"logit_scale": "logit_scale"},
        fixed={"partial_rotary_factor": (1.0,)}),
    Row("gpt_oss", A.GPT_OSS, f"attn_norm post_attention_norm attn_sinks {QKV_BIAS} attn_output+ ffn_gate_inp+ "
        "ffn_gate_exps+ ffn_up_exps+ ffn_down_exps+", window="even", names=OSS_NAMES,
        shapes=WIDE_EXPERTS, keys={**MOE_KEYS, "expert_feed_forward_length": "intermediate_size"},
        fixed={"attention_bias": (True,), "swiglu_alpha": (1.702,), "swiglu_limit": (7.0,)}),
    Row("bert", A.BERT, f"{QKV_BIAS} attn_output+ attn_output_norm+ ffn_up+ ffn_down+ layer_output_norm+",
        top="token_embd position_embd token_types token_embd_norm+", norm="layer", rope="none",
        act=ERF_GELU + TANH_GELU, fixed={"position_embedding_type": (None, "absolute"), "is_decoder": (False,)}),
    Row("nomic_bert", A.NOMIC_BERT, f"attn_qkv attn_output attn_output_norm+ {FFN} layer_output_norm+",
        top="token_embd token_types token_embd_norm+", norm="layer", fixed={
            "prenorm": (False,), "rotary_emb_interleaved": (False,), "rotary_emb_fraction": (1.0,),
            "rotary_emb_scale_base": (None,), "qkv_proj_bias": (False,), "mlp_fc1_bias": (False,),
            "mlp_fc2_bias": (False,), "moe_every_n_layers": (None, 0), "use_rms_norm": (None, False)}),
    Row("gemma3_both_ways", A.GEMMA_EMBEDDING, f"{GEMMA_BLOCK} {QK_NORMS}",
        top="token_embd output_norm dense_2? dense_3?", act=TANH_GELU, window="5of6", plain_near=True, ops=GEMMA_OPS,
        fixed={"attention_bias": (False,), "attn_logit_softcapping": (None,), "final_logit_softcapping": (None,)}),
    *(Row(hf, A.T5, f"{own} ffn_norm ffn_gate? ffn_up ffn_down", decoder=f"{own} cross_attn_norm cross_attn_q "
          "cross_attn_k cross_attn_v cross_attn_o ffn_norm ffn_gate? ffn_up ffn_down", rope="none", act=TANH_GELU + RELU
          + SILU, top="token_embd enc.output_norm dec.output_norm output?", keys={
              "decoder_block_count": "num_decoder_layers", "decoder_start_token_id": "decoder_start_token_id",
              "attention.relative_buckets_count": "relative_attention_num_buckets", "logit_scale": "logit_scale"},
          fixed={"relative_attention_max_distance": (128,), "is_encoder_decoder": (True,)})
      for hf, own in (("t5 mt5", T5_SELF), ("umt5", T5_SELF.rstrip("?")))),     # whose layers all have a bias
]


# What transformers takes for a key that config.json lacks, by model_type under the names of ALIASES; "" is the others'.
# There is none for a model's width, layers and heads: without them a file is refused.
def _defaults(ffn, context, kv_heads=None, **more):
    return {"intermediate_size": ffn, "max_position_embeddings": context, "num_key_value_heads": kv_heads, **more}


DEFAULTS = {
    "": {"norm_eps": 1e-5, "rope_theta": 10000.0, "partial_rotary_factor": 1.0, "tie_word_embeddings": False,
         "rope_parameters": {}},
    "gpt2": _defaults(None, 1024, tie_word_embeddings=True),
    "gpt_bigcode": _defaults(None, 1024, multi_query=True, tie_word_embeddings=True),
    "gpt_neox": _defaults(24576, 2048, partial_rotary_factor=0.25, use_parallel_residual=True),
    "gptj": _defaults(None, 2048, rope_dim=64),
    "bloom": _defaults(None, 2048, tie_word_embeddings=True, max_alibi_bias=8.0),
    "falcon": _defaults(None, 2048, multi_query=True, tie_word_embeddings=True),
    "starcoder2": _defaults(12288, 4096, 2, tie_word_embeddings=True),
    "stablelm": _defaults(6912, 4096, 32, partial_rotary_factor=0.25, use_parallel_residual=False),
    "phi": _defaults(8192, 2048, partial_rotary_factor=0.5),
    "phi3": _defaults(8192, 4096, original_max_position_embeddings=4096),
    "llama": _defaults(11008, 2048, norm_eps=1e-6),
    "mistral": _defaults(14336, 131072, 8, norm_eps=1e-6, sliding_window=4096),
    "ministral3": _defaults(14336, 262144, 8, head_dim=128, rope_parameters={
        "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 16384,
        "beta_fast": 32.0, "beta_slow": 1.0, "mscale_all_dim": 1.0, "mscale": 1.0, "llama_4_scaling_beta": 0.1}),
    "llama4_text": _defaults(8192, 131072, 8, head_dim=128, intermediate_size_mlp=16384, num_experts=16,
                             num_experts_per_tok=1, num_dense_layers=0, moe_layer_interval=1, sliding_window=8192,
                             floor_scale=8192, attn_scale=0.1, use_qk_norm=True, rope_theta=5e5),
    "apertus": _defaults(14336, 65536, rope_theta=12e6, rope_parameters={
        "rope_type": "llama3", "rope_theta": 12e6, "factor": 8.0, "original_max_position_embeddings": 8192,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0}),
    "internlm2": _defaults(11008, 2048, norm_eps=1e-6, bias=True),
    "baichuan": _defaults(11008, 4096, norm_eps=1e-6),
    "minicpm": _defaults(11008, 2048, norm_eps=1e-6, tie_word_embeddings=True, scale_emb=1, scale_depth=1,
                         dim_model_base=1),
    "mellum": _defaults(7168, 131072, 4, norm_eps=1e-6, head_dim=128, sliding_window=1024, num_experts=64,
                        num_experts_per_tok=8, moe_intermediate_size=896, norm_topk_prob=True, rope_parameters={
                            "full_attention": {"rope_type": "default", "rope_theta": 5e5},
                            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}),
    "mixtral": _defaults(14336, 131072, 8, num_experts=8, num_experts_per_tok=2, rope_theta=1e6),
    "qwen2": _defaults(22016, 32768, 32, norm_eps=1e-6),
    "qwen2_moe": _defaults(5632, 32768, 16, norm_eps=1e-6, num_experts=60, num_experts_per_tok=4,
                           moe_intermediate_size=1408, shared_expert_intermediate_size=5632),
    "qwen3": _defaults(22016, 32768, 32, norm_eps=1e-6, head_dim=128),
    "qwen3_moe": _defaults(6144, 32768, 4, norm_eps=1e-6, num_experts=128, num_experts_per_tok=8,
                           moe_intermediate_size=768, norm_topk_prob=False),
    "qwen2_vl": _defaults(29568, 32768, 8, rope_theta=1e6),
    "qwen3_vl": _defaults(22016, 128000, 32, norm_eps=1e-6, head_dim=128, rope_theta=5e5, **DEEPSTACK_DEFAULT),
    "qwen3_vl_moe": _defaults(5632, 128000, 16, norm_eps=1e-6, num_experts=60, num_experts_per_tok=4,
                              moe_intermediate_size=1408, rope_theta=5e5, **DEEPSTACK_DEFAULT),
    "qwen3_5_text": _defaults(12288, 32768, 4, norm_eps=1e-6, head_dim=256, partial_rotary_factor=0.25,
                              mrope_section=[11, 11, 10], linear_conv_kernel_dim=4, linear_key_head_dim=128,
                              linear_value_head_dim=128, linear_num_key_heads=16, linear_num_value_heads=32,
                              full_attention_interval=4),
    "lfm2": _defaults(12288, 128000, 8, tie_word_embeddings=True, rope_theta=1e6, linear_conv_kernel_dim=3,
                      block_multiple_of=256, block_ffn_dim_multiplier=1.0, block_auto_adjust_ff_dim=True),
    "lfm2_moe": _defaults(7168, 128000, 8, tie_word_embeddings=True, rope_theta=1e6, linear_conv_kernel_dim=3,
                          num_dense_layers=2, num_experts=32, num_experts_per_tok=4, moe_intermediate_size=1792),
    "hunyuan_v1_dense": _defaults(11008, 2048),
    "seed_oss": _defaults(27648, 524288, 8, norm_eps=1e-6, head_dim=128),
    "ernie4_5": _defaults(3072, 131072, 2, head_dim=128, tie_word_embeddings=True, rope_theta=5e5),
    "ernie4_5_moe": _defaults(12288, 131072, 4, tie_word_embeddings=True, rope_theta=5e5, num_experts=64,
                              num_experts_per_tok=6, moe_intermediate_size=1536, num_shared_experts=2,
                              num_dense_layers=1, moe_layer_interval=1),
    "glm4_moe": _defaults(10944, 131072, 8, partial_rotary_factor=0.5, num_experts=128, num_experts_per_tok=8,
                          moe_intermediate_size=1408, num_shared_experts=1, num_dense_layers=1, n_group=1,
                          topk_group=1, routed_scaling_factor=1.0, norm_topk_prob=True),
    "minimax_m2": _defaults(1536, 196608, 8, norm_eps=1e-6, head_dim=128, rope_theta=5e6, num_experts=256,
                            num_experts_per_tok=8),
    "dots1": _defaults(10944, 2048, 32, norm_eps=1e-6, moe_intermediate_size=1408, num_dense_layers=0, n_group=1,
                       topk_group=1, norm_topk_prob=False, routed_scaling_factor=1.0),
    "bailing_moe": _defaults(5120, 32768, 4, norm_eps=1e-6, head_dim=128, rope_theta=6e5, num_experts=256,
                             num_experts_per_tok=8, moe_intermediate_size=512, num_shared_experts=1, n_group=8,
                             topk_group=4, num_dense_layers=1, norm_topk_prob=True, routed_scaling_factor=1.0,
                             partial_rotary_factor=0.5, vocab_size=157184),
    "sarvam_moe": _defaults(8192, 131072, 4, norm_eps=1e-6, head_dim=64, rope_theta=8e6, num_experts=128,
                            num_experts_per_tok=6, moe_intermediate_size=1024, num_shared_experts=1, n_group=1,
                            topk_group=1, num_dense_layers=1, norm_topk_prob=True, routed_scaling_factor=2.5,
                            vocab_size=262144),
    "solar_open": _defaults(None, 131072, 8, head_dim=128, rope_theta=1e6, num_experts=128, num_experts_per_tok=8,
                            moe_intermediate_size=1280, num_shared_experts=1, num_dense_layers=0, n_group=1,
                            topk_group=1, routed_scaling_factor=1.0, norm_topk_prob=True),
    "internlm3": _defaults(10240, 32768, 2, head_dim=128, vocab_size=128512),
    "iquestcoder": _defaults(27648, 131072, 8, head_dim=128, vocab_size=76800),
    "smallthinker": _defaults(None, 131072, 2, norm_eps=1e-6, head_dim=128, rope_theta=1e6, tie_word_embeddings=True,
                              num_experts=32, num_experts_per_tok=4, moe_intermediate_size=768, sliding_window=4096,
                              moe_primary_router_apply_softmax=False),
    "afmoe": _defaults(6144, 16384, head_dim=128, sliding_window=1024, num_dense_layers=1, num_experts=64,
                       num_experts_per_tok=6, moe_intermediate_size=1408, num_shared_experts=2, norm_topk_prob=True,
                       routed_scaling_factor=1.0, mup_enabled=False, global_attn_every_n_layers=4),
    "deepseek_v2": _defaults(11008, 2048, norm_eps=1e-6, kv_lora_rank=512, q_lora_rank=1536, qk_nope_head_dim=128,
                             qk_rope_head_dim=64, v_head_dim=128, num_experts=64, num_shared_experts=2, n_group=None,
                             moe_intermediate_size=1407, num_dense_layers=0, routed_scaling_factor=1.0,
                             topk_method="greedy", norm_topk_prob=False),
    "hunyuan_v1_moe": _defaults(11008, 2048, num_experts=1, num_experts_per_tok=1),
    "glm4": _defaults(13696, 131072, 2, norm_eps=1.5625e-7, head_dim=128, partial_rotary_factor=0.5),
    "arcee": _defaults(18432, 4096),
    "nemotron": _defaults(24576, 4096, partial_rotary_factor=0.5),
    "jais2": _defaults(26624, 8192),
    "gemma": _defaults(24576, 8192, 16, norm_eps=1e-6, head_dim=256, tie_word_embeddings=True),
    "gemma2": _defaults(9216, 8192, 4, norm_eps=1e-6, head_dim=256, tie_word_embeddings=True, sliding_window=4096,
                        query_pre_attn_scalar=256, attn_logit_softcapping=50.0, final_logit_softcapping=30.0),
    "gemma3_text": _defaults(9216, 131072, 4, norm_eps=1e-6, head_dim=256, tie_word_embeddings=True,
                             sliding_window=4096, query_pre_attn_scalar=256, rope_theta=1e6,
                             rope_local_base_freq=10000.0, num_attention_heads=8, vocab_size=262208),
    "gemma3n_text": _defaults(16384, 32768, 2, norm_eps=1e-6, head_dim=256, tie_word_embeddings=True,
                              sliding_window=512, rope_theta=1e6, rope_local_base_freq=10000.0, vocab_size=262400,
                              hidden_size_per_layer_input=256, altup_num_inputs=4, altup_active_idx=0,
                              altup_correct_scale=True, num_kv_shared_layers=15, laurel_rank=64,
                              final_logit_softcapping=30.0, num_attention_heads=8),
    "gemma4_text": _defaults(9216, 131072, 4, norm_eps=1e-6, head_dim=256, tie_word_embeddings=True,
                             sliding_window=512, hidden_size_per_layer_input=256, num_kv_shared_layers=0,
                             num_attention_heads=8, vocab_size=262144, rope_parameters={
                                 "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                                 "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25,
                                                    "rope_theta": 1e6}}),
    "olmo": _defaults(11008, 2048),
    "olmo2": _defaults(11008, 2048),
    "olmo3": _defaults(11008, 2048, rope_theta=5e5, sliding_window=4096),
    "olmoe": _defaults(2048, 4096, num_experts=64, num_experts_per_tok=8),
    "exaone": _defaults(14336, 4096, 8, rope_theta=5e5),
    "exaone_moe": _defaults(16384, 2048, 32, sliding_window=4096, num_dense_layers=1, moe_intermediate_size=1024,
                            num_experts=64, num_experts_per_tok=8, num_shared_experts=1, norm_topk_prob=True,
                            routed_scaling_factor=2.5, n_group=1, topk_group=1),
    "exaone4": _defaults(16384, 2048, 32, sliding_window=4096),
    "granite": _defaults(11008, 2048, norm_eps=1e-6, attention_multiplier=1.0, embedding_multiplier=1.0,
                         residual_multiplier=1.0, logits_scaling=1.0),
    "smollm3": _defaults(11008, 32768, 4, norm_eps=1e-6, tie_word_embeddings=True, rope_theta=2e6),
    "cohere": _defaults(22528, 8192, tie_word_embeddings=True, rope_theta=5e5, logit_scale=0.0625),
    "cohere2": _defaults(22528, 8192, tie_word_embeddings=True, logit_scale=0.0625, sliding_window=4096),
    "gpt_oss": _defaults(2880, 131072, 8, head_dim=64, sliding_window=128, num_experts=128, num_experts_per_tok=4,
                         rope_theta=150000.0, rope_parameters={
                             "rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                             "truncate": False, "original_max_position_embeddings": 4096}),
}
DEFAULTS["gemma3"] = DEFAULTS["gemma3_both_ways"] = DEFAULTS["gemma3_text"]
DEFAULTS["llama4"] = DEFAULTS["llama4_text"]
DEFAULTS["deepseek_v3"] = {**DEFAULTS["deepseek_v2"], **_defaults(
    18432, 4096, num_experts=256, num_shared_experts=1, num_experts_per_tok=8, n_group=8, topk_group=4,
    moe_intermediate_size=2048, num_dense_layers=3, routed_scaling_factor=2.5, norm_topk_prob=True, topk_method=None)}
DEFAULTS["kimi_k2"] = DEFAULTS["deepseek_v3"]
DEFAULTS["glm4_moe_lite"] = {**DEFAULTS["deepseek_v3"], **_defaults(
    10240, 202752, norm_eps=1e-5, q_lora_rank=768, qk_nope_head_dim=192, v_head_dim=256, num_experts=64, n_group=1,
    num_experts_per_tok=4, topk_group=1, moe_intermediate_size=1536, num_dense_layers=1, routed_scaling_factor=1.8)}
DEFAULTS["youtu"] = _defaults(6144, 131072, norm_eps=1e-6, tie_word_embeddings=True, num_shared_experts=0, **{
    k: v for k, v in DEFAULTS["deepseek_v2"].items() if "head_dim" in k or "lora" in k})
for kind in ("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "youtu"):
    DEFAULTS[kind + "_lite"] = DEFAULTS[kind]
DEFAULTS["gemma3n"], DEFAULTS["gemma4"] = DEFAULTS["gemma3n_text"], DEFAULTS["gemma4_text"]
DEFAULTS["gemma4_unified"] = DEFAULTS["gemma4_unified_text"] = {
    **DEFAULTS["gemma4_text"], "max_position_embeddings": 262144, "sliding_window": 1024,
    "hidden_size_per_layer_input": 0}
DEFAULTS["dots_ocr"] = DEFAULTS["qwen2"]
DEFAULTS["qwen2_5_vl"] = DEFAULTS["qwen2_vl"]
DEFAULTS["qwen3_5"] = DEFAULTS["qwen3_5_text"]
DEFAULTS["qwen3_5_moe"] = DEFAULTS["qwen3_5_moe_text"] = {
    **DEFAULTS["qwen3_5_text"], "intermediate_size": 512, "num_key_value_heads": 2, "num_experts": 256,
    "num_experts_per_tok": 8, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512}
DEFAULTS["qwen3_next"] = {**DEFAULTS["qwen3_5_moe"], "intermediate_size": 5632, "mrope_section": None,
                          "num_experts": 512, "num_experts_per_tok": 10}
DEFAULTS["granitemoe"] = {**DEFAULTS["granite"], "num_experts": 8, "num_experts_per_tok": 2}
DEFAULTS["granitemoeshared"] = {**DEFAULTS["granitemoe"], "shared_expert_intermediate_size": 0}
DEFAULTS["granitemoehybrid"] = DEFAULTS["granitehybrid_dense"] = {
    **DEFAULTS["granitemoe"], "shared_expert_intermediate_size": 1024, "mamba_n_heads": 128, "mamba_n_groups": 1,
    "mamba_d_state": 256, "mamba_d_head": 64, "linear_conv_kernel_dim": 4, "mamba_conv_bias": True,
    "mamba_proj_bias": False}
DEFAULTS["mamba2"] = _defaults(None, 1 << 20, mamba_d_state=128, mamba_n_groups=8, linear_conv_kernel_dim=4,
                               mamba_conv_bias=True, use_bias=False)
DEFAULTS["nemotron_h"] = DEFAULTS["nemotron_h_moe"] = _defaults(
    21504, 4096, 8, head_dim=128, mamba_d_state=128, mamba_n_groups=8, mamba_n_heads=128, mamba_d_head=64,
    linear_conv_kernel_dim=4, num_experts=8, num_experts_per_tok=2, num_shared_experts=1, moe_intermediate_size=7688,
    shared_expert_intermediate_size=7688, n_group=1, topk_group=1, norm_topk_prob=True,
    routed_scaling_factor=1.0)
DEFAULTS["falcon_h1"] = DEFAULTS["falcon_h1_norm"] = _defaults(
    14336, 8192, 8, mamba_d_ssm=1024, mamba_n_heads=128, mamba_d_head="auto", mamba_n_groups=1, mamba_d_state=256,
    linear_conv_kernel_dim=4, mamba_norm_before_gate=True)
DEFAULTS["bert"] = _defaults(3072, 512, norm_eps=1e-12, type_vocab_size=2, tie_word_embeddings=True)
DEFAULTS["nomic_bert"] = _defaults(3072, 2048, norm_eps=1e-12, type_vocab_size=2, tie_word_embeddings=True,
                                   max_trained_positions=2048, rope_theta=1000.0)

DEFAULTS["t5"] = _defaults(2048, 512, head_dim=64, norm_eps=1e-6, vocab_size=32128, tie_word_embeddings=True,
                           feed_forward_proj="relu", relative_attention_num_buckets=32, decoder_start_token_id=0)
DEFAULTS["mt5"] = DEFAULTS["umt5"] = {**DEFAULTS["t5"], "intermediate_size": 1024, "vocab_size": 250112,
                                      "feed_forward_proj": "gated-gelu"}
# T5's feed-forwards: the activation, and whether there is a gate
T5_PROJ = {"relu": ("relu", False), "gated-gelu": ("gelu_new", True), "gated-silu": ("silu", True)}
BOTH_WAYS = (A.BERT, A.NOMIC_BERT, A.GEMMA_EMBEDDING)

# names of find_row's own
OWN_TYPES = ("gemma3_both_ways", "granitehybrid_dense", "nemotron_h_moe", "falcon_h1_norm",
             *(k for k in DEFAULTS if k.endswith("_lite") and k != "glm4_moe_lite"))
MODEL_TYPES = " ".join(sorted((k for r in ROWS for k in r.hf.split() if k not in OWN_TYPES), key=str.lower))
# Models that also see or hear and have no row. Their text goes through a model that has: by the model_type of their
# text_config, by this one where it names none.
TEXT_TYPES = {whole: text for text, wholes in {
    "cohere2": "aya_vision cohere2_vision", "deepseek_v3": "kimi_k25 kimi_vl", "exaone4": "exaone4_5",
    "granite": "granite_speech granite_speech_plus", "lfm2": "lfm2_vl", "mistral": "idefics2 mistral3",
    "llama": "deepseek_vl deepseek_vl_hybrid glmasr idefics3 janus llava llava_next llava_next_video multi_modality "
             "perception_lm sarashina2_vision smolvlm video_llava vipllava voxtral",
    "nemotron_h": "nemotron_h_omni NemotronH_Nano_VL_V2",
    "qwen2": "audioflamingo3 fast_vlm got_ocr2 internvl internvl_chat llava_onevision musicflamingo ovis2 "
             "pp_chart2table qwen2_audio video_llama_3",
    "qwen3": "fun_asr_nano lighton_ocr qianfan_ocr", "qwen3_5_text": "minicpmv4_6"}.items() for whole in wholes.split()}
TEXT_KEYS = ("text_config", "llm_config", "language_config")
# Layer i has a window; what config.json may say of it with a sliding_window_pattern.
WINDOWS = {"": (lambda i: False, None), "all": (lambda i: True, None), "even": (lambda i: i % 2 == 0, None),
           "5of6": (lambda i: (i + 1) % 6 != 0, (None, 6)), "4of5": (lambda i: (i + 1) % 5 != 0, None),
           "3of4": (lambda i: (i + 1) % 4 != 0, (None, 0, 4, "LLLG")), "gwww": (lambda i: i % 4 != 0, None)}


def _swap(a, heads):
    """Half-split rope rows [h, (2, k/2)] to interleaved pairs [h, (k/2, 2)]."""
    b = a.reshape(heads, 2, a.shape[0] // heads // 2, *a.shape[1:])
    return b.swapaxes(1, 2).reshape(a.shape)


def _latent(a, d):
    """Rows of kv_b_proj [h, (key without what turns, value), latent]"""
    return a.reshape(d["H"], d["NO"] + d["VAL"], d["KV"])


def _regroup(a, dims):
    """Fused rows [g, (h/g queries, key, value), k] to all queries, all keys, all values."""
    g, per = dims["G"], dims["H"] // dims["G"]
    b = a.reshape(g, per + 2, dims["K"], *a.shape[1:])
    return np.concatenate([b[:, :per].reshape(-1, *a.shape[1:]), b[:, per].reshape(-1, *a.shape[1:]),
                           b[:, per + 1].reshape(-1, *a.shape[1:])])


def _flip(a, kind):
    """Expert weights kept as [e, in, out]; MXFP4 blocks are [e, out, in/32, 17] already."""
    return a if kind == "mxfp4" else a.swapaxes(1, 2)


def _tile(a, d, size, axis=0):
    """Value heads of `size` rows, those of one key head beside each other, to rounds of one value head of each."""
    b = a.reshape(*a.shape[:axis], d["J"], d["U"] // d["J"], size, *a.shape[axis + 1:])
    return b.swapaxes(axis, axis + 1).reshape(a.shape)


def _tile_values(a, d):
    """The same for the last of rows of all queries, all keys, all values."""
    n = 2 * d["J"] * d["Q"]
    return np.concatenate([a[:n], _tile(a[n:], d, d["R"])])


def _ungroup(a, d, parts):
    """Some of the fused rows [key head, (query, key, its values, their gates)], all of one part after the other."""
    k, v, out = d["Q"], d["U"] // d["J"] * d["R"], []
    b = a.reshape(d["J"], 2 * (k + v), *a.shape[1:])
    for i in parts:
        at = (0, k, 2 * k, 2 * k + v, 2 * (k + v))
        out.append(b[:, at[i]:at[i + 1]].reshape(-1, *a.shape[1:]))
    return np.concatenate(out)


def _group(a, d, at):
    """Of fused rows [g, (h/g queries, key, value), k] one part, all groups one after the other."""
    b = a.reshape(d["G"], -1, d["K"], *a.shape[1:])
    return b[:, at].reshape(-1, *a.shape[1:])


def _stack(a, d, at):
    """One part of rows of all queries, all keys, all values."""
    n, g = d["H"] * d["K"], d["G"] * d["K"]
    return (a[:n], a[n:n + g], a[n + g:])[at]


def _squeeze(a):
    return a.reshape(a.shape[0], a.shape[-1])


def _same(s, d):
    return s


def _heads(name):
    return lambda s, d: (d[name] * d["K"] if s[0] == d["N"] * d["K"] else s[0], *s[1:])


def _half(s, d):
    return (*s[:-2], s[-2] // 2, s[-1])


def _squeezed(s, d):
    return (s[0], *s[2:])


def _padded(s, d):
    return (max(s[0], d["V"]), *s[1:])


# name: (shape in, dims -> shape out; array, dims, storage kind -> array). Arrays keep their storage type, most results
# are views.
OPS = {
    "same": (_same, lambda a, d, k: a),
    "plus1": (_same, lambda a, d, k: a),
    "transpose": (lambda s, d: s[::-1], lambda a, d, k: a.T),
    "padded": (_padded, lambda a, d, k: a if len(a) >= d["V"] else np.concatenate(
        [a, np.zeros((d["V"] - len(a), *a.shape[1:]), a.dtype)])),
    "flatten": (lambda s, d: (math.prod(s),), lambda a, d, k: a.reshape(-1)),
    "swap_q": (_same, lambda a, d, k: _swap(a, d["H"])),
    "swap_k": (_same, lambda a, d, k: _swap(a, d["G"])),
    "regroup": (_same, lambda a, d, k: _regroup(a, d)),
    "first_half": (_half, lambda a, d, k: a[..., :a.shape[-2] // 2, :]),
    "second_half": (_half, lambda a, d, k: a[..., a.shape[-2] // 2:, :]),
    "first_half_out": (lambda s, d: (s[0], s[2] // 2, s[1]), lambda a, d, k: _flip(a, k)[:, :a.shape[2] // 2]),
    "second_half_out": (lambda s, d: (s[0], s[2] // 2, s[1]), lambda a, d, k: _flip(a, k)[:, a.shape[2] // 2:]),
    "even": (lambda s, d: (s[0], s[1] // 2), lambda a, d, k: a[:, ::2]),
    "odd": (lambda s, d: (s[0], s[1] // 2), lambda a, d, k: a[:, 1::2]),
    "out": (lambda s, d: (s[0], s[2], s[1]), lambda a, d, k: _flip(a, k)),
    "even_out": (lambda s, d: (s[0], s[2] // 2, s[1]), lambda a, d, k: _flip(a, k)[:, ::2]),
    "odd_out": (lambda s, d: (s[0], s[2] // 2, s[1]), lambda a, d, k: _flip(a, k)[:, 1::2]),
    "q_of_groups": (_heads("H"), lambda a, d, k: _swap(_group(a, d, slice(-2)), d["H"])),
    "k_of_groups": (_heads("G"), lambda a, d, k: _swap(_group(a, d, -2), d["G"])),
    "v_of_groups": (_heads("G"), lambda a, d, k: _group(a, d, -1)),
    "q_of_stack": (_heads("H"), lambda a, d, k: _swap(_stack(a, d, 0), d["H"])),
    "k_of_stack": (_heads("G"), lambda a, d, k: _swap(_stack(a, d, 1), d["G"])),
    "v_of_stack": (_heads("G"), lambda a, d, k: _stack(a, d, 2)),
    "unit_rows": (_same, lambda a, d, k: a),
    "centred": (_same, lambda a, d, k: a),
    "minus_exp": (_same, lambda a, d, k: a),
    "minus_exp_tiled": (_same, lambda a, d, k: _tile(a, d, 1)),
    "tiled": (_same, lambda a, d, k: _tile(a, d, d["R"])),
    "tiled_numbers": (_same, lambda a, d, k: _tile(a, d, 1)),
    "tiled_values": (_same, lambda a, d, k: _tile_values(a, d)),
    "tiled_columns": (_same, lambda a, d, k: _tile(a, d, d["R"], 1)),
    "minus_exp_column": (lambda s, d: (*s, 1), lambda a, d, k: a[:, None]),
    "groups": (lambda s, d: (d["J"], s[0] // d["J"]), lambda a, d, k: a.reshape(d["J"], -1)),
    "column": (lambda s, d: (*s, 1), lambda a, d, k: a[:, None]),
    "squeeze": (_squeezed, lambda a, d, k: _squeeze(a)),
    "squeeze_tiled": (_squeezed, lambda a, d, k: _tile_values(_squeeze(a), d)),
    "latent_keys": (lambda s, d: (d["H"], d["KV"], d["NO"]), lambda a, d, k: _latent(a, d)[:, :d["NO"]].swapaxes(1, 2)),
    "latent_values": (lambda s, d: (d["H"], d["VAL"], d["KV"]), lambda a, d, k: _latent(a, d)[:, d["NO"]:]),
    "qkv_of_qkvz": (lambda s, d: (s[0] - d["U"] * d["R"], *s[1:]), lambda a, d, k: _ungroup(a, d, (0, 1, 2))),
    "z_of_qkvz": (lambda s, d: (s[0] - d["C"], *s[1:]), lambda a, d, k: _ungroup(a, d, (3,))),
}
# What is computed after conversion to float32.
NUMBERS = {"plus1": lambda x: x + np.float32(1),
           "unit_rows": lambda x: x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.float32(1e-12)),
           "centred": lambda x: x - x.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32),
           "minus_exp": lambda x: -np.exp(x.astype(np.float64)).astype(np.float32)}
NUMBERS["minus_exp_tiled"] = NUMBERS["minus_exp_column"] = NUMBERS["minus_exp"]

# Buffers that old checkpoints carry and no model needs.
NOT_WEIGHTS = re.compile(r"\.(attn|attention|self_attn)\.(bias|masked_bias)$|rotary_emb\.|\.rotary_pos_emb\."
                         r"|^rope\.freqs$|^(bert\.)?(pooler\.dense\.|embeddings\.position_ids$)|^cls\.")
# Of models that also see or hear; of those that TEXT_TYPES names what is not of their language half.
SEEING = re.compile(r"(model\.)?(vision_tower|vision_model|visual|multi_modal_projector|audio_tower"
                    r"|embed_(vision|audio))\.")
SEEING_AROUND = re.compile(r"(?!(model\.)?(language_model|text_model|lm_head|mtp)\.|llm\.)")
# Kept in float32 whatever --type says: llama.cpp wants them so, and they are small.
KEEP_F32 = re.compile(r"_norm(_[12])?\.weight$|^position_embd|^token_types|ffn_gate_inp(_shexp)?\.|ssm_conv1d\."
                      r"|ssm_[ad]$|altup_(correct|predict)_coef"
                      r"|shortconv\.conv\.")
ROW_CHUNK = 1 << 20     # weights converted at a time


# ----------------------------------------------------------------------------------------------------------------
# Where tensors come from
# ----------------------------------------------------------------------------------------------------------------
@dataclass
class Tensor:
    shape: tuple
    kind: str               # a numpy type name, "bfloat16" (kept as uint16) or "mxfp4" (uint8, [..., n / 32, 17])
    load: object            # () -> array in storage type, a view of a mapped file where possible


@dataclass
class Source:
    name: str
    config: dict                                    # as in a Hugging Face config.json
    tensors: dict                                   # Hugging Face name -> Tensor
    vocab_path: object = None                       # folder or file with the tokenizer, when the source has one
    pairs: bool = False                             # rope pairs are interleaved already (Meta's own layout)
    embedder: dict = field(default_factory=dict)    # GGUF keys of what makes a vector of a text


KINDS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "U8": "uint8"}


def storage(kind):
    return np.dtype("<u2" if kind == "bfloat16" else kind).newbyteorder("<")


def to_f32(a, kind):
    if kind == "bfloat16":
        return (a.astype(np.uint32) << 16).view(np.float32)
    return a.astype(np.float32)


def read_json(path, needed=True):
    if not path.is_file():
        if needed:
            raise Refused(f"{path}: no such file")
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"), object_hook=lambda d: float(d["__float__"])
                          if list(d) == ["__float__"] else d)      # transformers 5 writes infinity so
    except (ValueError, TypeError, UnicodeDecodeError) as e:
        raise Refused(f"{path}: not JSON: {e}") from None
    if not isinstance(data, dict):
        raise Refused(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data


def mapped(path, offset, shape, kind):
    """A tensor that lies in a file as it is."""
    n = math.prod(shape)
    if kind not in KINDS.values():
        return Tensor(tuple(shape), kind, None)
    if n == 0:
        raise Refused(f"{path}: a tensor of shape {list(shape)} is empty")
    return Tensor(tuple(shape), kind, lambda: np.memmap(path, storage(kind), "r", offset, tuple(shape)))


def read_safetensors(path):
    from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, framework="np") as f:      # the package checks header, shapes and offsets
            names = set(f.keys())
    except (SafetensorError, OSError) as e:
        raise Refused(f"{path}: not a safetensors file: {e}") from None
    with open(path, "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(size))
    return {n: mapped(path, 8 + size + header[n]["data_offsets"][0], header[n]["shape"],
                      KINDS.get(header[n]["dtype"], header[n]["dtype"])) for n in names}


def torch_load(path):
    try:
        import torch
    except ImportError:
        raise Refused(f"{path}: reading it needs torch (pip install torch)") from None
    for mmap in (True, False):      # files of torch < 1.6 cannot be mapped
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        except OSError:
            raise
        except Exception as e:      # what torch raises for a damaged or unwelcome pickle is of many kinds
            if not mmap:
                why = (str(e) or type(e).__name__).splitlines()[0]
                raise Refused(f"{path}: not a checkpoint of plain tensors: {why}") from None


def torch_tensor(t):
    import torch
    kind = str(t.dtype).removeprefix("torch.")

    def load():
        a = t.detach()
        return (a.view(torch.uint16) if kind == "bfloat16" else a).numpy()
    return Tensor(tuple(t.shape), kind, load)


def torch_tensors(path, state):
    import torch
    if not isinstance(state, dict):
        raise Refused(f"{path}: expected a dictionary of tensors, found {type(state).__name__}")
    return {n: torch_tensor(t) for n, t in state.items() if isinstance(t, torch.Tensor)}


def join_mxfp4(tensors):
    """gpt-oss keeps X_blocks [.., n/32, 16] and X_scales [.., n/32]: join them to GGUF's blocks. A byte of theirs holds
    two neighbours, a byte of ours elements i and i + 16."""
    for name in [n for n in tensors if n.endswith("_blocks")]:
        base = name.removesuffix("_blocks")
        blocks, scales = tensors.pop(name), tensors.pop(base + "_scales", None)
        if scales is None or blocks.shape != (*scales.shape, 16) or (blocks.kind, scales.kind) != ("uint8", "uint8"):
            raise Refused(f"{name}: expected uint8 blocks [..., 16] with scales beside them, "
                          f"found {blocks.kind} {list(blocks.shape)}")

        def load(blocks=blocks, scales=scales):
            b = np.asarray(blocks.load())
            v = np.stack([b & 15, b >> 4], axis=-1).reshape(*b.shape[:-1], 32)
            return np.concatenate([np.asarray(scales.load())[..., None], v[..., :16] | v[..., 16:] << 4], axis=-1)
        e, rows, n, _ = blocks.shape
        tensors[base] = Tensor((e, n * 32, rows), "mxfp4", load)
    return tensors


def hint(path):
    """What a file that lies in a folder in the place of weights may be for."""
    for pattern, text in (("*.gguf", "is a GGUF file already, it needs no conversion"),
                          ("*.bin", "may be a file of llama2.c or llm.c: give it as SOURCE"),
                          ("*.pt", "may be a nanoGPT or minGPT checkpoint: give it as SOURCE"),
                          ("*.pth", "is a checkpoint as Meta published it; take the model from Hugging Face")):
        for f in sorted(path.glob(pattern)):
            return f"; {f.name} {text}"
    return ""


def model_config(path):
    if not (path / "config.json").is_file():
        raise Refused(f"{path}: no config.json in this folder{hint(path)}")
    return text_half(read_json(path / "config.json"), path)


def text_half(config, where):
    """config.json of the language half of a model that also sees. Whether the head is tied is the whole's matter."""
    text, kind = next((config[k] for k in TEXT_KEYS if k in config), None), config.get("model_type")
    if text is None and "text_config" not in config:
        return config
    tied = {k: v for k, v in config.items() if k == "tie_word_embeddings" and v is not None}
    if kind in TEXT_TYPES:
        kind = {"exaone4_5_text": "exaone4"}.get(text.get("model_type"), text.get("model_type")) or TEXT_TYPES[kind]
        if kind not in MODEL_TYPES.split():
            raise Refused(f"{where}: unknown model_type {kind!r} of the text_config of {config['model_type']!r}; "
                          "--help lists the known ones")
        tied = {**tied, "architectures": text.get("architectures"), "inside": config["model_type"]}
    return {**config, **text, **tied, "model_type": kind}


def without_peft(tensors):
    """A merged model saved from within PEFT has its names."""
    out = {}
    for name, t in tensors.items():
        plain = re.sub(r"^(base_model\.model\.)+", "", name)
        plain = plain.replace(".base_layer.", ".") if plain != name else name
        if plain in out:
            raise Refused(f"{name}: {plain} is there too")
        out[plain] = t
    return out


def open_folder(path, args):
    config = model_config(path)
    quant = config.get("quantization_config")
    if quant and not (config.get("model_type") == "gpt_oss" and quant.get("quant_method") == "mxfp4"):
        raise Refused(f"{path}: quantised weights ({quant.get('quant_method')}) cannot be converted; "
                      "take the original model")
    tensors = {}
    for pattern, reader in (("model*.safetensors", read_safetensors), ("pytorch_model*.bin", None)):
        index = path / ("model.safetensors.index.json" if reader else "pytorch_model.bin.index.json")
        if index.is_file():
            weight_map = read_json(index).get("weight_map")
            if not isinstance(weight_map, dict) or not all(isinstance(v, str) and Path(v).name == v
                                                           for v in weight_map.values()):
                raise Refused(f"{index}: expected a weight_map of file names in this folder")
            files = [path / f for f in sorted(set(weight_map.values()))]
        else:
            weight_map, files = {}, sorted(path.glob(pattern))
            if not files and reader:
                files = sorted(path.glob("*.safetensors"))
            if len(files) > 1 and any("-of-" not in f.name for f in files):
                files = [f for f in files if "-of-" not in f.name]
        for f in files:
            if not f.is_file():
                raise Refused(f"{f}: listed in {index.name} but not there")
            found = reader(f) if reader else torch_tensors(f, torch_load(f))
            for n in found.keys() & tensors.keys():
                raise Refused(f"{f}: {n} is in an earlier file too")
            tensors.update(found)
        if files:
            for n in weight_map.keys() - tensors.keys():
                raise Refused(f"{index}: {n} is listed but in none of the files")
            break
    if not tensors:
        raise Refused(f"{path}: neither *.safetensors nor pytorch_model*.bin in it{hint(path)}")
    tensors = without_peft(tensors)
    embedder = read_modules(path, tensors)
    pairs = any(re.match(r"layers\.\d+\.attention\.w[qk]\.", n) for n in tensors)     # Meta's names and layout
    return Source(path.resolve().name, config, join_mxfp4(tensors), path, pairs, embedder)


POOLING = {"mean": 1, "cls": 2, "lasttoken": 3}


def read_modules(path, tensors):
    """modules.json of sentence-transformers: what follows the transformer. Dense layers join the tensors."""
    out = {}
    try:
        modules = json.loads((path / "modules.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return out
    kinds = [(m["type"].rsplit(".", 1)[-1], path / m["path"]) for m in modules]
    for kind, folder in kinds[1:]:
        conf = read_json(folder / "config.json", needed=kind != "Normalize")
        if kind == "Pooling":
            modes = [k[len("pooling_mode_"):].removesuffix("_tokens").removesuffix("_token")
                     for k, v in conf.items() if k.startswith("pooling_mode_") and v is True]
            modes = modes or [conf.get("pooling_mode")]
            if len(modes) != 1 or modes[0] not in POOLING:
                raise Refused(f"{folder}: pooling {modes} has no place in GGUF (expected mean, cls or lasttoken)")
            if conf.get("include_prompt") is False:
                raise Refused(f"{folder}: include_prompt = false has no place in GGUF")
            out["pooling_type"] = POOLING[modes[0]]
        elif kind == "Dense":
            name = f"dense_{2 + sum(k.endswith('feat_in') for k in out)}"
            linear = read_safetensors(folder / "model.safetensors")
            if list(linear) != ["linear.weight"] or not conf.get("activation_function", "").endswith("Identity"):
                raise Refused(f"{folder}: a dense layer with {sorted(linear)} and {conf.get('activation_function')} "
                              "has no place in GGUF (expected linear.weight alone and Identity)")
            tensors[name + ".weight"] = linear["linear.weight"]
            out[f"{name}_feat_out"], out[f"{name}_feat_in"] = linear["linear.weight"].shape
        elif kind != "Normalize":
            raise Refused(f"{path}: modules.json: {kind} has no place in GGUF (expected Pooling, Dense, Normalize)")
    if "dense_2_feat_in" in out and ("dense_3_feat_in" not in out or len(out) > 5):
        raise Refused(f"{path}: modules.json: expected no dense layer or two")
    return out


def gpt2_config(layers, heads, width, context, vocab, act="gelu_new"):
    return {"model_type": "gpt2", "n_layer": layers, "n_head": heads, "n_embd": width, "n_positions": context,
            "vocab_size": vocab, "activation_function": act, "tie_word_embeddings": True}


def open_pt(path, args):
    """nanoGPT: {"model": state, "model_args": {...}}; minGPT: the state itself. Both use GPT-2's names with linear
    layers stored [out, in]; Hugging Face stores them [in, out]."""
    top = torch_load(path)
    if not isinstance(top, dict):
        raise Refused(f"{path}: expected a dictionary, found {type(top).__name__}")
    nano = isinstance(top.get("model_args"), dict)
    state = top.get("model") if nano or isinstance(top.get("model"), dict) else top
    tensors = {n.removeprefix("_orig_mod.").removeprefix("module."): t for n, t in torch_tensors(path, state).items()}
    wte, wpe = tensors.get("transformer.wte.weight"), tensors.get("transformer.wpe.weight")
    if wte is None or wpe is None or len(wte.shape) != 2 or len(wpe.shape) != 2:
        raise Refused(f"{path}: expected a nanoGPT or minGPT checkpoint with transformer.wte.weight and wpe, "
                      f"found {', '.join(list(tensors)[:3]) or 'no tensors'}")
    layers = 1 + max((int(m[1]) for n in tensors if (m := re.match(r"transformer\.h\.(\d+)\.", n))), default=-1)
    conf = top["model_args"] if nano else {"n_head": args.n_head}
    if not conf.get("n_head"):
        raise Refused(f"{path}: the file does not say how many attention heads the model has; give --n-head")
    if nano:
        note(f"nanoGPT computes GELU with erf, its first versions with tanh as GPT-2 does; --gelu {args.gelu}")
    act = "gelu" if nano and args.gelu == "erf" else "gelu_new"
    config = gpt2_config(layers, conf["n_head"], wte.shape[1], wpe.shape[0], wte.shape[0], act)
    out = {}
    for n, t in tensors.items():
        if re.search(r"\.(c_attn|c_proj|c_fc)\.weight$", n) and len(t.shape) == 2:
            t = Tensor(t.shape[::-1], t.kind, lambda t=t: t.load().T)
        out[n] = t
    for n, t in list(out.items()):      # a bias that is off is the same as zeros, and readers of GPT-2 want one
        if n.endswith(".weight") and re.search(r"\.(ln_\w|c_attn|c_proj|c_fc)\.", n):
            zeros = np.zeros(t.shape[-1:], np.float32)
            out.setdefault(n[:-6] + "bias", Tensor(zeros.shape, "float32", lambda z=zeros: z))
    head = out.get("lm_head.weight")
    if head is not None and head.shape == wte.shape and not np.array_equal(head.load(), wte.load()):
        config["tie_word_embeddings"] = False
    return Source(path.stem, config, out)


def open_bin(path, args):
    with open(path, "rb") as f:
        head = f.read(1024)
    if len(head) >= 28:
        magic, version = struct.unpack("<Ii", head[:8])
        if magic == 20240326:
            return open_llmc(path, head, version)
        if magic == 0x616B3432:
            if version != 1:
                raise Refused(f"{path}: llama2.c file of version {version}, expected the legacy format or version 1 "
                              "(float32)")
            shape, shared = struct.unpack("<7iB", head[8:37])[:7], head[36]
            return open_llama2c(path, shape, bool(shared), 256, LLAMA2C_V1)
        shape = struct.unpack("<7i", head[:28])
        if all(0 < (abs(x) if i == 5 else x) < 1 << 28 for i, x in enumerate(shape)):
            return open_llama2c(path, (*shape[:5], abs(shape[5]), shape[6]), shape[5] > 0, 28, LLAMA2C_LEGACY)
    raise Refused(f"{path}: neither a llama2.c nor an llm.c file")


# Order of the matrices in a llama2.c file; L of each but the single ones. `skip` are tables of sines.
LLAMA2C_ATTN = "q_proj:L,H.K,D k_proj:L,G.K,D v_proj:L,G.K,D o_proj:L,D,H.K "
LLAMA2C_FFN = "gate_proj:L,F,D down_proj:L,D,F up_proj:L,F,D "
LLAMA2C_LEGACY = ("embed_tokens:V,D input_layernorm:L,D " + LLAMA2C_ATTN + "post_attention_layernorm:L,D " +
                  LLAMA2C_FFN + "norm:D skip:T,K lm_head:V,D")
LLAMA2C_V1 = ("input_layernorm:L,D post_attention_layernorm:L,D norm:D embed_tokens:V,D " + LLAMA2C_ATTN +
              LLAMA2C_FFN + "lm_head:V,D")
LLMC = ("transformer.wte:P,D transformer.wpe:T,D ln_1.weight:L,D ln_1.bias:L,D attn.c_attn.weight:L,3.D,D "
        "attn.c_attn.bias:L,3.D attn.c_proj.weight:L,D,D attn.c_proj.bias:L,D ln_2.weight:L,D ln_2.bias:L,D "
        "mlp.c_fc.weight:L,4.D,D mlp.c_fc.bias:L,4.D mlp.c_proj.weight:L,D,4.D mlp.c_proj.bias:L,D "
        "transformer.ln_f.weight:D transformer.ln_f.bias:D")


def sequence(path, layout, dims, offset, kind):
    """Tensors that follow each other in a file; yields (name, layer or None, Tensor) and checks the size."""
    out, size = [], storage(kind).itemsize
    for item in layout.split():
        name, shape = item.split(":")
        per_layer, shape = shape.startswith("L,"), extents(shape, dims)
        if per_layer:
            for i in range(dims["L"]):
                out.append((name, i, mapped(path, offset, shape[1:], kind)))
                offset += math.prod(shape[1:]) * size
        else:
            out.append((name, None, mapped(path, offset, shape, kind)))
            offset += math.prod(shape) * size
    if (actual := path.stat().st_size) != offset:
        raise Refused(f"{path}: expected {offset} bytes for this header, found {actual}")
    return out


def open_llama2c(path, header, shared, offset, layout):
    d, f, n_layer, h, g, v, t = header
    if d % h or h % g or d // h % 2 or min(header) <= 0:
        raise Refused(f"{path}: width {d}, {h} heads, {g} key/value heads do not make a llama2.c model")
    if shared:
        layout = layout.removesuffix(" lm_head:V,D")
    dims = {"D": d, "F": f, "L": n_layer, "H": h, "G": g, "V": v, "T": t, "K": d // h}
    tensors = {}
    for name, i, tensor in sequence(path, layout, dims, offset, "float32"):
        part = "self_attn." if name[1:] == "_proj" else "mlp." if name in ("gate_proj", "down_proj", "up_proj") else ""
        name = f"model.layers.{i}.{part}{name}" if i is not None else name if name == "lm_head" else "model." + name
        if name != "model.skip":
            tensors[name + ".weight"] = tensor
    config = {"model_type": "llama", "hidden_size": d, "intermediate_size": f, "num_hidden_layers": n_layer,
              "num_attention_heads": h, "num_key_value_heads": g, "vocab_size": v, "max_position_embeddings": t,
              "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": shared}
    return Source(path.stem, config, tensors, pairs=True)


def open_llmc(path, head, version):
    if version not in (3, 5):
        raise Refused(f"{path}: llm.c file of version {version}, expected 3 (float32) or 5 (bfloat16)")
    t, v, n_layer, h, d, padded = struct.unpack("<6i", head[8:32])
    if min(t, v, n_layer, h, d) <= 0 or padded < v or d % h:
        raise Refused(f"{path}: a header of context {t}, vocabulary {v} in {padded}, {n_layer} layers, {h} heads, "
                      f"width {d} is not valid")
    dims, kind = {"T": t, "P": padded, "L": n_layer, "D": d}, "float32" if version == 3 else "bfloat16"
    tensors = {}
    for name, i, x in sequence(path, LLMC, dims, 1024, kind):
        if name.endswith("wte"):        # the rows that pad the vocabulary are never used
            x = Tensor((v, d), x.kind, lambda x=x: x.load()[:v])
        if len(x.shape) == 2 and i is not None:
            x = Tensor(x.shape[::-1], x.kind, lambda x=x: x.load().T)
        name = name if i is None else f"transformer.h.{i}.{name}"
        tensors[name if name.endswith(("weight", "bias")) else name + ".weight"] = x
    return Source(path.stem, gpt2_config(n_layer, h, d, t, v), tensors)


def open_source(path, args):
    if path.is_dir():
        return open_folder(path, args)
    if not path.is_file():
        hub = f"; hf download {path} --local-dir FOLDER gets a model of that name" if len(path.parts) == 2 else ""
        raise Refused(f"{path}: no such file or folder{hub}")
    if path.suffix in (".json", ".safetensors") or re.fullmatch(r"pytorch_model.*\.bin", path.name):
        raise Refused(f"{path}: is one file of a Hugging Face folder; give the folder")
    if path.suffix in (".pt", ".pth", ".ckpt"):
        return open_pt(path, args)
    with open(path, "rb") as f:
        magic = f.read(4)
    if magic == b"GGUF":
        raise Refused(f"{path}: is a GGUF file already, it needs no conversion")
    return open_pt(path, args) if magic == b"PK\x03\x04" else open_bin(path, args)


# ----------------------------------------------------------------------------------------------------------------
# Configuration
# ----------------------------------------------------------------------------------------------------------------
def nemotron_kinds(config):
    """A letter or a word for each layer; nothing where config.json does not say"""
    return config.get("layers_block_type") or config.get("layer_types") or config.get("hybrid_override_pattern")


def find_row(config, where):
    kind = config.get("model_type")
    if kind == "gemma3_text" and config.get("use_bidirectional_attention"):
        kind = config["model_type"] = "gemma3_both_ways"
    if kind == "granitemoehybrid" and not config.get("num_local_experts", 8):
        kind = config["model_type"] = "granitehybrid_dense"
    if kind in ("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "youtu") and config.get("q_lora_rank", 1) is None:
        kind = config["model_type"] = kind + "_lite"        # q has no latent
    if kind == "nemotron_h" and set(nemotron_kinds(config) or []) & {"E", "moe"}:
        kind = config["model_type"] = "nemotron_h_moe"
    if kind == "falcon_h1" and config.get("mamba_rms_norm"):
        kind = config["model_type"] = "falcon_h1_norm"
    for row in ROWS:
        if kind in row.hf.split():
            return row
    raise Refused(f"{where}: unknown model_type {kind!r} in config.json; --help lists the known ones")


def canonical(config, row):
    """config.json under one name for each thing, with transformers' values for what it lacks."""
    out = {}
    for k, v in config.items():     # of two names for one thing the one that has a value
        if v is not None or ALIASES.get(k, k) not in out:
            out[ALIASES.get(k, k)] = v
    out = {k: v for k, v in out.items() if v is not None or k not in DEFAULTS[""]}
    if row.arch == A.NOMIC_BERT:
        if out.get("hidden_act", "silu") not in ("swiglu", "silu"):      # transformers' own name for it
            raise Refused(f"config: activation_function {out.get('hidden_act')!r}, expected 'swiglu'")
        out["hidden_act"] = "silu"
        out["max_position_embeddings"] = min(out.get("max_position_embeddings") or 2048,
                                             out.get("max_trained_positions") or 2048)
    c = {**DEFAULTS[""], **DEFAULTS[config["model_type"]], **out}
    if row.arch == A.LFM2:      # whose width is not the one that it computes with
        c["intermediate_size"] = integer(c, "block_ff_dim", c["intermediate_size"])
        if c["block_auto_adjust_ff_dim"]:
            width, by, unit = 2 * c["intermediate_size"] // 3, c["block_ffn_dim_multiplier"], c["block_multiple_of"]
            c["intermediate_size"] = width if by is None else -(-int(by * width) // unit) * unit
    if row.decoder:             # T5's config.json has names of its own
        c.update({new: c.pop(old) for old, new in {"d_model": "hidden_size", "d_ff": "intermediate_size", "num_heads":
                  "num_attention_heads", "d_kv": "head_dim"}.items() if old in c})
        if c["feed_forward_proj"] not in T5_PROJ:
            raise Refused(f"config: feed_forward_proj {c['feed_forward_proj']!r}, expected {' or '.join(T5_PROJ)}")
        c["hidden_act"] = T5_PROJ[c["feed_forward_proj"]][0]
        c["num_decoder_layers"] = integer(c, "num_decoder_layers", c.get("num_hidden_layers"))
        if c.get("scale_decoder_outputs") is not None:      # transformers 5, which says that all are tied
            c["tie_word_embeddings"] = c["scale_decoder_outputs"]
        if config["model_type"] == "mt5":       # whose head is its own where there is one, and nothing scales
            c["tie_word_embeddings"] = False
        c["logit_scale"] = integer(c, "hidden_size") ** -0.5 if c["tie_word_embeddings"] else 1.0
    for name in ("num_experts_per_tok", "num_shared_experts", "moe_intermediate_size"):
        if isinstance(c.get(name), list):       # one for each layer
            if len(set(map(repr, c[name]))) != 1:
                raise Refused(f"config: {name}: expected the same number for every layer, found {c[name]}")
            c[name] = c[name][0]
    if "sharing" in row.kinds:
        for name in ("hidden_size_per_layer_input", "num_kv_shared_layers"):
            c[name] = integer(c, name) if c.get(name) else 0
        if row.arch == A.GEMMA4 and not c.get("enable_moe_block"):
            c["num_experts"] = c["num_experts_per_tok"] = c["moe_intermediate_size"] = None
    if c.get("num_shared_experts") and not c.get("shared_expert_intermediate_size"):
        width = integer(c, "moe_intermediate_size", c["intermediate_size"])
        c["shared_expert_intermediate_size"] = integer(c, "num_shared_experts") * width
    if row.arch == A.DEEPSEEK2:                 # one head of keys for all
        c["num_key_value_heads"], c["head_dim"] = 1, c["qk_rope_head_dim"]
        c["qk_head_dim"] = integer(c, "qk_nope_head_dim") + integer(c, "qk_rope_head_dim")
        if c.get("topk_method") == "greedy" and c.get("n_group") != 1:
            c["n_group"] = c["topk_group"] = None           # which it does not look at
    if row.arch == A.HUNYUAN_MOE:               # whose experts are as wide as it says for no other use
        c["moe_intermediate_size"] = c.get("moe_intermediate_size") or c["intermediate_size"]
    if row.arch == A.SMALLTHINKER:              # which says with zeros and ones what layers are
        c["intermediate_size"], windows = c["moe_intermediate_size"], c.get("sliding_window_layout")
        c["sliding_window"] = c["sliding_window"] if isinstance(windows, list) and any(windows) else None
    if row.arch == A.LLAMA4:                    # whose intermediate_size is an expert's
        c["moe_intermediate_size"] = c["shared_expert_intermediate_size"] = c["intermediate_size"]
        c["intermediate_size"] = c["intermediate_size_mlp"]
    if row.arch == A.MINICPM:                   # Granite's scales, said in another way
        c.update(embedding_multiplier=c["scale_emb"],
                 residual_multiplier=c["scale_depth"] / integer(c, "num_hidden_layers") ** 0.5,
                 logits_scaling=integer(c, "hidden_size") / c["dim_model_base"])
    if row.arch == A.MAMBA2:    # has no heads of attention, and calls its own so
        c = {**c, "mamba_n_heads": c.get("num_heads"), "mamba_d_head": c.get("head_dim", 64), "head_dim": 1,
             "num_attention_heads": 1, "num_key_value_heads": 1}
    if row.arch in (A.NEMOTRON_H, A.NEMOTRON_H_MOE):
        kinds = nemotron_kinds(c)
        letters = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
        c["layer_types"] = [letters.get(k, k) for k in kinds] if isinstance(kinds, (str, list)) else None
        if not kinds:
            raise Refused("config: layers_block_type or hybrid_override_pattern: expected a kind for each layer, "
                          f"found {kinds!r}")
        c["num_hidden_layers"] = len(kinds)
    if row.arch == A.FALCON_H1 and c["mamba_d_head"] == "auto":
        c["mamba_d_head"] = integer(c, "mamba_d_ssm") // integer(c, "mamba_n_heads")
    new = {"chunked_attention": "sliding_attention"} if row.arch == A.LLAMA4 else {}
    if "mamba" in row.kinds:                    # transformers has new names for them
        new = {"linear_attention": "mamba", "full_attention": "attention"}
    if new and isinstance(c.get("layer_types"), list):
        c["layer_types"] = [new.get(k, k) if isinstance(k, str) else k for k in c["layer_types"]]
    return c


def integer(c, name, default=None):
    v = c.get(name)
    v = default if v is None else v
    if isinstance(v, bool) or not isinstance(v, int) or v < 1:
        raise Refused(f"config: {name}: expected a positive integer, found {v!r}")
    return v


def has_mamba(row):
    return "ssm_in" in f"{row.block} {row.kinds}"


def dimensions(c, row):
    d = {"V": integer(c, "vocab_size"), "D": integer(c, "hidden_size"), "L": integer(c, "num_hidden_layers"),
         "H": integer(c, "num_attention_heads"), "T": integer(c, "max_position_embeddings")}
    widths = c["intermediate_size"] if isinstance(c.get("intermediate_size"), list) else None
    if widths is None:
        d["F"] = integer(c, "intermediate_size", 4 * d["D"])
    elif row.arch == A.GEMMA3N and len(widths) == d["L"]:
        d["F"] = [integer({"intermediate_size": n}, "intermediate_size") for n in widths][0]
    else:
        raise Refused(f"config: intermediate_size: expected a positive integer, found {widths!r}")
    if not c.get("head_dim") and d["D"] % d["H"]:
        raise Refused(f"config: {d['H']} heads do not divide the width {d['D']} and there is no head_dim")
    d["K"] = integer(c, "head_dim", d["D"] // d["H"])
    if row.multi_query and not c.get("new_decoder_architecture"):
        d["G"] = 1 if c["multi_query"] else d["H"]
    else:
        d["G"] = integer(c, "num_key_value_heads", d["H"])
    if d["H"] % d["G"]:
        raise Refused(f"config: {d['G']} key/value heads do not divide {d['H']} heads")
    d["N"] = d["H"] + 2 * d["G"]
    d["E"] = c.get("num_experts") or 0
    d["M"] = c.get("moe_intermediate_size") or 0
    d["S"] = c.get("shared_expert_intermediate_size") or 0
    d["Y"] = c.get("type_vocab_size") or 0
    if row.arch == A.DEEPSEEK2:
        d["KV"], d["NO"], d["VAL"] = (integer(c, n) for n in ("kv_lora_rank", "qk_nope_head_dim", "v_head_dim"))
        d["KEY"], d["QK"], d["QL"] = d["KV"] + d["K"], d["NO"] + d["K"], integer(c, "q_lora_rank", 1)
    if row.decoder:
        d["BUCKETS"] = integer(c, "relative_attention_num_buckets")
    if has_mamba(row) or set(row.kinds) & {"conv", "linear_attention"}:
        d["W"] = integer(c, "linear_conv_kernel_dim")
    if "linear_attention" in row.kinds:
        d["J"], d["Q"] = integer(c, "linear_num_key_heads"), integer(c, "linear_key_head_dim")
        d["U"], d["R"] = integer(c, "linear_num_value_heads"), integer(c, "linear_value_head_dim")
        if d["U"] % d["J"]:
            raise Refused(f"config: linear_num_key_heads = {d['J']} does not divide linear_num_value_heads = {d['U']}")
        d["C"] = 2 * d["J"] * d["Q"] + d["U"] * d["R"]
    if "sharing" in row.kinds:
        add_layers(d, c, row, widths)
    if has_mamba(row):
        d["J"], d["Q"] = integer(c, "mamba_n_groups"), integer(c, "mamba_d_state")
        d["U"], d["R"] = integer(c, "mamba_n_heads"), integer(c, "mamba_d_head")
        d["B"] = d["U"] * d["R"] // d["J"]
        if d["U"] % d["J"]:
            raise Refused(f"config: {d['J']} groups (mamba_n_groups) do not divide {d['U']} heads of Mamba-2")
        d["C"] = 2 * d["J"] * d["Q"] + d["U"] * d["R"]
        d["I"] = d["C"] + d["U"] * d["R"] + d["U"]
    return d


def add_layers(d, c, row, widths):
    """Dimensions of layers' own inputs and streams, and what single layers have otherwise: d["each"]."""
    d["PL"], n_own = c["hidden_size_per_layer_input"], d["L"] - c["num_kv_shared_layers"]
    windows = layer_windows(c, row, d)
    if row.arch == A.GEMMA3N:
        d["O"], d["X"] = integer(c, "altup_num_inputs"), integer(c, "laurel_rank")
        d["Z"] = d["O"] - 1
        integer(c, "hidden_size_per_layer_input")
        d["each"] = [{"F": n} for n in widths or [d["F"]] * d["L"]]
        return
    of_layer = {int(k): v for k, v in (c.get("per_layer_config") or {}).items()}    # "05": how transformers says it now
    far = [of_layer.get(i) or {} for i, near in enumerate(windows) if not near]
    if any(x != far[0] for x in far):
        raise Refused(f"config: per_layer_config: expected the same for all layers without a window, found {far}")
    far = {**(far[0] if far else {}), **{k: c[n] for k, n in (("head_dim", "global_head_dim"), (
        "num_key_value_heads", "num_global_key_value_heads")) if c.get(n) is not None}}
    d["far"] = {"K": integer(far, "head_dim", 512), "G": d["G"]}
    if c.get("attention_k_eq_v", not c.get("global_head_dim")):
        d["far"]["G"] = integer(far, "num_key_value_heads", d["G"])
    d["each"] = [{**({} if windows[i] else d["far"]),
                  "F": d["F"] * (2 if c.get("use_double_wide_mlp") and i >= n_own else 1)} for i in range(d["L"])]


def check_fixed(c, row, d):
    for name, allowed in row.fixed.items():
        if name in c and c[name] not in allowed:
            raise Refused(f"config: {name} = {c.get(name)!r} changes the computation and has no place in a "
                          f"{row.called} file (expected {' or '.join(map(repr, allowed))})")
    act = c.get("hidden_act") or row.act[0]
    if act not in row.act:
        raise Refused(f"config: activation {act!r} is not known for this architecture "
                      f"(expected {' or '.join(row.act)})")
    least, most = c.get("time_step_limit") or (0.0, math.inf)
    if has_mamba(row) and (least > 0 or most < 1e6):
        raise Refused(f"config: time_step_limit {c['time_step_limit']} has no place in GGUF (expected 0 to infinity)")
    window = layer_windows(c, row, d)
    kinds = ["sliding_attention" if w else "full_attention" for w in window]
    sparse = sparse_layers(c, row, d)
    for name, want in (("is_moe_layer", sparse), ("mlp_layer_types", ["sparse" if x else "dense" for x in sparse]),
                       ("moe_layers", [i for i, x in enumerate(sparse) if x])):
        if sparse and c.get(name) not in (None, want):
            raise Refused(f"config: {name} {c[name]} has no place in this architecture's files (expected {want})")
    if sparse and c.get("moe_layer_end_index") not in (None, -1, d["L"] - 1):
        raise Refused(f"config: moe_layer_end_index {c['moe_layer_end_index']} is not the last layer")
    if not mixers(row) and not has_mamba(row) and c.get("layer_types") not in (None, kinds):
        raise Refused(f"config: layer_types {c['layer_types']} are not the architecture's (expected {kinds})")
    if row.arch == A.LLAMA4 and bool(c["use_qk_norm"]) != (d["E"] != 128):
        raise Refused(f"config: use_qk_norm = {c['use_qk_norm']} has no place in a llama4 file of {d['E']} experts")
    if row.arch in (A.SMOLLM3, A.LLAMA4):
        want = [int((i + 1) % 4 != 0) for i in range(d["L"])]
        if c.get("no_rope_layers") not in (None, [], want) or c.get("no_rope_layer_interval", 4) != 4:
            raise Refused(f"config: no_rope_layers {c.get('no_rope_layers')} is not every fourth layer")
    if row.arch == A.SMALLTHINKER:              # rope is where windows are, or everywhere
        near = [int(w) for w in window]
        for name, want in (("sliding_window_layout", near), ("rope_layout", near if any(window) else [1] * d["L"]),
                           ("moe_layer_layout", [1] * d["L"])):
            if c.get(name) not in (None, want):
                raise Refused(f"config: {name} {c[name]} is not the architecture's (expected {want})")
    pattern = c.get("sliding_window_pattern", c.get("_sliding_window_pattern"))
    known = WINDOWS[row.window.strip("!*")][1]
    if known and pattern not in known:
        raise Refused(f"config: sliding_window_pattern {pattern!r}, expected {' or '.join(map(repr, known[1:]))}")
    if not c["tie_word_embeddings"] and row.arch in (A.GEMMA, A.GEMMA2, A.COMMAND_R, A.COHERE2):
        raise Refused("config: tie_word_embeddings = False has no place in this architecture's files")


def layer_windows(c, row, d):
    size = integer(c, "sliding_window") if "!" in row.window else c.get("sliding_window")
    listed = c.get("layer_types") if "*" in row.window and size else None
    if listed and (len(listed) != d["L"] or set(listed) - {"sliding_attention", "full_attention"}):
        raise Refused(f"config: layer_types: expected sliding_attention or full_attention {d['L']} times, "
                      f"found {listed}")
    return [bool(size) and (listed[i] == "sliding_attention" if listed else WINDOWS[row.window.strip("!*")][0](i))
            for i in range(d["L"])]


def mixers(row):
    """Of row.kinds what reads along the sequence: none, or a kind and one of attention, and perhaps one instead"""
    return [k for k in row.kinds if k not in ("dense", "sparse")]


def sparse_layers(c, row, d):
    """Whether each layer has experts; nothing where none has."""
    if "dense" not in row.kinds:
        return [True] * d["L"] if "ffn_gate_exps" in row.block else []
    step = integer(c, "moe_layer_interval", 1)
    return [i >= c["num_dense_layers"] and (i + 1) % step == 0 for i in range(d["L"])]


def cache_kinds(c, row, d):
    """The same of models whose layers may read an earlier one's keys and values."""
    windows, out = layer_windows(c, row, d), []
    for i, near in enumerate(windows):
        own = "tied" if c.get("attention_k_eq_v") and not near else "own"
        out.append(("sharing" if i >= d["L"] - c["num_kv_shared_layers"] else own,
                    *(["inputs"] if d["PL"] else []), *(["beside"] if d["E"] else [])))
    return out


def layer_kinds(c, row, d):
    """Of each layer the keys of row.kinds that it goes by."""
    if "sharing" in row.kinds:
        return cache_kinds(c, row, d)
    dense = [("sparse",) if x else ("dense",) for x in sparse_layers(c, row, d)] if "dense" in row.kinds \
        else [()] * d["L"]
    if not mixers(row):
        return dense
    other, attention = mixers(row)[:2]
    listed = c.get("layer_types")
    if listed is None and other == "linear_attention":
        full = range(-1, d["L"], integer(c, "full_attention_interval"))
    else:
        full = c.get("full_attn_idxs") or range(d["L"] if other == "conv" else 0)
    listed = listed or [attention if i in full else other for i in range(d["L"])]
    if len(listed) != d["L"] or set(listed) - set(mixers(row)):
        raise Refused(f"config: layer_types: expected {' or '.join(mixers(row))} {d['L']} times, found {listed}")
    return [(k, *more) for k, more in zip(listed, dense)]


def rope_parameters(c, row):
    """Old files have rope_theta and rope_scaling, new ones rope_parameters, of plain_near one set per kind of layer.
    Returns (parameters, base of the window layers or None)."""
    p, local = c.get("rope_scaling") or c["rope_parameters"], None
    if row.plain_near:
        inner = p.get("sliding_attention") or {}
        local = c.get("rope_local_base_freq") or p.get("rope_theta") or c["rope_theta"]
        if inner.get("rope_type", "default") != "default":
            raise Refused(f"config: rope_type {inner['rope_type']!r} on window layers, expected 'default'")
        local = inner.get("rope_theta", local)
        p = p.get("full_attention", p)
    p = {k: v for k, v in p.items() if v is not None}
    return {**{k: c[k] for k in ("rope_theta", "partial_rotary_factor")}, **p}, local


def add_proportional(put, extra, p, d):
    """A part of the head turns, with the frequencies of the whole: the others get factors without end."""
    if p.get("rope_type") != "proportional":
        raise Refused(f"config: rope_type {p.get('rope_type')!r} of layers without a window, expected 'proportional'")
    turned, half = int(d["far"]["K"] * p["partial_rotary_factor"] / 2), d["far"]["K"] // 2
    put("rope.dimension_count_swa", d["K"])
    extra["rope_freqs.weight"] = np.array([1.0] * turned + [1e30] * (half - turned), np.float32)


def add_rope(put, extra, c, row, d):
    if row.rope in ("none", "swapped"):
        return
    p, local = rope_parameters(c, row)
    dim = c.get("rope_dim") or int(d["K"] * p["partial_rotary_factor"])
    base = float(p["rope_theta"])
    if row.arch == A.GEMMA4:
        add_proportional(put, extra, p, d)
        dim = d["far"]["K"]
        d = {**d, "K": dim}
        p = {**p, "rope_type": "default"}
    if dim % 2 or dim > d["K"] or (row.rope == "swap" and dim != d["K"]):
        raise Refused(f"config: rope over {dim} of {d['K']} values of a head is not possible here")
    kind = p.get("rope_type") or p.get("type") or "default"
    if kind == "su" or (kind == "yarn" and row.arch == A.PHI3):     # earlier names
        kind = "longrope"
    if kind == "mrope" and row.rope == "parts":
        kind = "default"
    if kind == "dynamic" and row.hf in ("internlm2", "internlm3"):       # which begins where the context ends
        kind = "default"
    if kind == "dynamic" and row.rope == "alpha" and p.get("alpha"):
        kind = "default"
        base *= p["alpha"] ** (dim / (dim - 2))
    put("rope.dimension_count", dim)
    put("rope.freq_base", base)
    if local:
        put("rope.freq_base_swa", float(local))
    sections = p.get("mrope_section") or c.get("mrope_section")
    if row.rope == "parts" and sections:
        put("rope.dimension_sections", [*sections, 0, 0, 0, 0][:4])
    if row.rope_keys and kind != "yarn":
        raise Refused(f"config: rope scaling {kind!r} is not known for this architecture (expected yarn)")
    for key, name in row.rope_keys.items():
        if p.get(name) is None:
            raise Refused(f"config: rope_parameters without {name}")
        put(key, float(p[name]))
    if kind == "default":
        return
    context = c.get("original_max_position_embeddings") or p.get("original_max_position_embeddings") or d["T"]
    factor = p.get("factor") or (d["T"] / context if kind in ("yarn", "longrope") else 0)
    if factor <= 0:
        raise Refused(f"config: rope scaling {kind!r} without a factor")
    if kind == "linear":
        put("rope.scaling.type", "linear")
        put("rope.scaling.factor", float(factor))
    elif kind == "yarn":
        log = lambda s, m=1.0: 0.1 * m * math.log(s) + 1.0 if s > 1 else 1.0    # noqa: E731
        m, m_all = p.get("mscale"), p.get("mscale_all_dim")
        attn = p.get("attention_factor") or (log(factor, m) / log(factor, m_all) if m and m_all else log(factor))
        put("rope.scaling.type", "yarn")
        put("rope.scaling.factor", float(factor))
        put("rope.scaling.original_context_length", int(context))
        latent = row.arch == A.DEEPSEEK2 and m_all      # the scores grow by it, cosines and sines do not
        if latent:
            put("rope.scaling.yarn_log_multiplier", 0.1 * m_all)
        known = log(factor) / log(factor, m_all) if "rope.scaling.yarn_log_multiplier" in row.rope_keys else log(factor)
        known = 1.0 if latent else known
        if abs(attn / known - 1) > 1e-6:            # readers multiply by what is known themselves
            put("rope.scaling.attn_factor", attn / known)
        put("rope.scaling.yarn_beta_fast", float(p.get("beta_fast") or 32))
        put("rope.scaling.yarn_beta_slow", float(p.get("beta_slow") or 1))
        put("rope.scaling.yarn_truncate", p.get("truncate", True) is not False)    # absent, readers differ
    elif kind == "longrope":
        if row.arch != A.PHI3:
            raise Refused("config: rope scaling 'longrope' is known for phi3 only")
        attn = p.get("attention_factor") or (math.sqrt(1 + math.log(factor) / math.log(context)) if factor > 1 else 1.0)
        put("rope.scaling.type", "longrope")
        put("rope.scaling.attn_factor", float(attn))
        put("rope.scaling.original_context_length", int(context))
        for name in ("long", "short"):
            values = np.asarray(p.get(name + "_factor"), np.float32)
            if values.shape != (dim // 2,):
                raise Refused(f"config: {name}_factor: expected {dim // 2} numbers, found shape {list(values.shape)}")
            extra[f"rope_factors_{name}.weight"] = values
    elif kind == "llama3":
        low, high = p["low_freq_factor"], p["high_freq_factor"]
        with np.errstate(all="ignore"):
            wave = 2 * np.pi * base ** (np.arange(0, dim, 2, dtype=np.float64) / dim)
            smooth = np.clip((context / wave - low) / (high - low), 0, 1)   # 0: slow waves, divided; 1: fast ones, kept
            slower = (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)
        if not (np.isfinite(slower).all() and (slower > 0).all()):
            raise Refused(f"config: rope scaling 'llama3' with factors {slower.tolist()}")
        extra["rope_freqs.weight"] = slower
    else:
        raise Refused(f"config: rope scaling {kind!r} has no place in GGUF "
                      "(expected default, linear, yarn, longrope or llama3)")


def deviations(pattern, n):
    """How far above the mean a number of a normal distribution lies that this part of all is below."""
    pattern = [0.95 if n > 10 and i < 10 else 0.0 for i in range(n)] if pattern is None else pattern
    if not isinstance(pattern, list) or len(pattern) != n or not all(isinstance(x, (int, float)) and 0 <= x < 1
                                                                     for x in pattern):
        raise Refused(f"config: activation_sparsity_pattern: expected {n} numbers of at least 0 and below 1, "
                      f"found {pattern!r}")
    return [statistics.NormalDist().inv_cdf(x) if x else -math.inf for x in pattern]


def longest_context(c, row, d):
    if row.arch == A.COMMAND_R:
        return max(d["T"], c.get("model_max_length") or 0)
    if row.arch == A.MAMBA2 or ("mamba" in row.kinds and c.get("position_embedding_type") != "rope"):
        return 1 << 20      # without positions there is no end
    if row.rope == "alpha" and rope_parameters(c, row)[0].get("alpha") and d["T"] == 32768:
        return 262144       # which the alpha is for; some config.json tell the length before
    return d["T"]


def add_config(put, extra, c, row, d):
    put("vocab_size", d["V"])
    put("context_length", longest_context(c, row, d))
    put("embedding_length", d["D"])
    put("block_count", d["L"])
    kinds = layer_kinds(c, row, d)
    alone = {"mlp": d["F"], "moe": d["M"]}      # a layer that is nothing but a feed-forward
    each = [{**d, **x} for x in d.get("each", [])]
    put("feed_forward_length", [max(alone.get(k, 0) for k in kind) for kind in kinds] if set(alone) & set(row.kinds)
        else [x["F"] for x in each] if len({x["F"] for x in each}) > 1 or row.arch == A.GEMMA3N
        else 0 if row.arch == A.MAMBA2 else d["F"])
    put("attention.head_count", 0 if row.arch == A.MAMBA2 else d["H"])
    without = {"conv", "mamba", *alone}     # layers without keys and values
    if row.arch != A.MAMBA2:
        heads = [0 if without & set(k) else d["G"] for k in kinds] if without & set(row.kinds) else d["G"]
        put("attention.head_count_kv", [x["G"] for x in each] if "far" in d and d["far"]["G"] != d["G"] else heads)
    if has_mamba(row):
        put("ssm.inner_size", d["U"] * d["R"])
    if "mamba" in row.kinds:
        put("rope.scaling.finetuned", c.get("position_embedding_type") == "rope")   # which readers take for a word
    if "linear_attention" in row.kinds:
        put("attention.recurrent_layers", ["linear_attention" in k for k in kinds])
        put("ssm.inner_size", d["U"] * d["R"])
    lengths = "far" in d or "KV" in d or d["K"] * d["H"] != d["D"] or row.decoder
    for name in ("key", "value") if lengths and row.arch != A.MAMBA2 else ():
        width = d["far"]["K"] if "far" in d else d.get("KEY" if name == "key" else "KV", d["K"])
        put(f"attention.{name}_length", width)
        if "far" in d:
            put(f"attention.{name}_length_swa", d["K"])
    if row.arch == A.GEMMA3N:
        put("activation_sparsity_scale", deviations(c.get("activation_sparsity_pattern"), d["L"]))
    put("attention.layer_norm_rms_epsilon" if row.norm == "rms" else "attention.layer_norm_epsilon",
        float(c["norm_eps"]))
    act = "gelu_pytorch_tanh" if row.arch == A.GEMMA else c.get("hidden_act") or row.act[0]   # its "gelu" was an error
    if act not in RELU + RELU_2 + XIELU:       # which are named nowhere: architectures that have it have no other
        put("hidden_activation", "silu" if act in SILU else "gelu" if act in ERF_GELU else "gelu_pytorch_tanh")
    windows = layer_windows(c, row, d)
    if any(windows) or ("*" in row.window and c.get("sliding_window")):
        put("attention.sliding_window", integer(c, "sliding_window"))
        if "*" in row.window:
            put("attention.sliding_window_pattern", windows)
    if row.arch in BOTH_WAYS:
        put("attention.causal", False)
    if row.sigmoid and not c.get("moe_primary_router_apply_softmax"):
        put("expert_gating_func", int(gguf.ExpertGatingFuncType.SIGMOID))
    if row.arch in (A.GEMMA2, A.GEMMA3, A.GEMMA_EMBEDDING):
        put("attention.scale", float(c["query_pre_attn_scalar"]) ** -0.5)
    for key, name in row.keys.items():
        v = c
        for part in name.split("."):
            v = v.get(part) if isinstance(v, dict) else None
        v = c.get(name) if v is None else v     # a default
        v = len(v) if isinstance(v, list) else v
        if v is not None:
            put(key, float(v) if re.search("scal|soft|clamp|max_alibi", key) else v)
    add_rope(put, extra, c, row, d)
    if d["K"] % 2 and row.rope != "none":
        raise Refused(f"config: heads of {d['K']} values, expected an even number")


# ----------------------------------------------------------------------------------------------------------------
# Tensors
# ----------------------------------------------------------------------------------------------------------------
REFUSE, OMIT, ZEROS, DROP = range(4)


@dataclass
class Out:
    shape: tuple
    kind: str       # storage type of the parts
    op: str
    parts: dict     # index (0 but for stacked tensors) -> Tensor
    source: str     # the name to complain about


def wanted(row, kinds, c):
    """GGUF tensor names -> what to do where the source has none: REFUSE, OMIT or ZEROS; DROP: where it has one."""
    out = {}
    blocks = [(f"{'enc.' if row.decoder else ''}blk.{i}.", " ".join([row.block, *(row.kinds[k] for k in kind)]))
              for i, kind in enumerate(kinds)]
    if row.decoder:
        gate = "ffn_gate" if T5_PROJ[c["feed_forward_proj"]][1] else ""
        blocks += [(f"dec.blk.{i}.", row.decoder) for i in range(c["num_decoder_layers"])]
        blocks = [(p, t.replace("ffn_gate?", gate).replace("attn_rel_b?", "" if ".blk.0." not in p else "attn_rel_b"))
                  for p, t in blocks]
    for prefix, text in [("", row.top)] + blocks:
        for item in text.split():
            name = item.rstrip("+*=?-!")
            flags = item[len(name):]
            whole = "!" in flags or name.endswith(".bias")
            out[prefix + name + ("" if whole else ".weight")] = OMIT if "?" in flags else REFUSE
            if set(flags) & set("+*=-"):
                out[f"{prefix}{name}.bias"] = {"=": ZEROS, "+": REFUSE, "-": DROP}.get(flags, OMIT)
    return out


def gguf_names(row, tmap, hf):
    """The GGUF tensors that a Hugging Face tensor goes to: [(name, op or None)], its index when stacked."""
    parts = r"\.(experts|norms|altup_(?:unembed_)?projections)\.(\d+)\."
    stacked = re.sub(parts, lambda m: "." if m[1] == "norms" else f".{m[1]}.", hf)
    m = re.search(parts, hf)
    index = int(m[2]) if m else 0
    block = re.search(r"\blayers\.(\d+)\.(.+)", hf)
    if block and block[2] in row.names:
        return [(f"blk.{block[1]}.{name}", op) for name, op in row.names[block[2]]], 0
    plain = re.sub(r"^((model\.)?(language|text)_model|llm)\.(model\.)?", "model.", stacked)
    plain = plain.replace("model.lm_head", "lm_head").removeprefix("bert.")
    plain = re.sub(r"^(?:model\.)?backbone\.(layers\.\d+)\.mixer\.experts\.", r"model.\1.mlp.experts.", plain)
    plain = re.sub(r"\.(gamma|beta)$", lambda m: ".weight" if m[1] == "gamma" else ".bias", plain)
    if re.fullmatch(r"dense_[23]\.weight", plain):
        return [(plain, None)], index
    for name in (plain, plain.removeprefix("transformer."), "transformer." + plain, "model." + plain,
                 plain.removeprefix("model.")):
        if name.endswith(".sinks"):
            name += ".weight"
        found = tmap.get_name(name, try_suffixes=(".weight", ".bias"))
        if found:
            return [(found, None)], index
    return [], 0


def stem(name):
    """(attn_q, weight) of blk.0.attn_q.weight"""
    return re.fullmatch(r"(?:(?:enc\.|dec\.)?blk\.\d+\.)?(.+?)(?:\.(weight|bias))?", name).groups()


def default_op(row, base, source, bias=False):
    if base in ("attn_q", "attn_k") and row.rope in ("swap", "swapped"):
        return "same" if source.pairs else "swap_" + base[-1]
    op = "regroup" if base == "attn_qkv" and row.fused else row.ops.get(base, "same")
    return "same" if bias and op in ("plus1", "transpose", "squeeze") else op


def fitting_op(op, hf, shape, want):
    """Of several ops the one that makes the shape that config.json says."""
    ops = op.split("|")
    fits = [o for o in ops if len(shape) == len(want) and OPS[o][0](shape, {}) == want]
    if len(fits) > 1:
        raise Refused(f"{hf}: {list(shape)} does not tell which way round the matrices are")
    return (fits or ops)[0]


def some(names):
    return ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")


def layer_numbers(source, row, d):
    """GGUF keys with a number of each layer, taken out of the tensors."""
    out = {}
    for name, key in row.numbers.items():
        found = {int(m[1]): hf for hf in source.tensors
                 if (m := re.search(rf"\blayers\.(\d+)\.{re.escape(name)}$", hf))}
        tensors = [source.tensors.pop(found[i], None) if i in found else None for i in range(d["L"])]
        for i, t in enumerate(tensors):
            if t is None or math.prod(t.shape) != 1 or t.kind not in KINDS.values():
                raise Refused(f"layers.{i}.{name}: expected one number, found {list(t.shape) if t else 'no tensor'}")
        out[key] = [float(to_f32(np.asarray(t.load()), t.kind).reshape(())) for t in tensors]
    return out


def multiplied(source, c, d):
    """The tensors of Falcon-H1 with what it multiplies their products by, which GGUF has no keys for."""
    def one(name, i=None):
        v = c.get(name)
        v = 1.0 if v is None else v if i is None else v[i]
        return np.float32(v)
    inner, keys = d["U"] * d["R"], d["J"] * d["Q"]
    rows = np.repeat([one("ssm_multipliers", i) for i in range(5)], [inner, inner, keys, keys, d["U"]])[:, None]
    read = one("attention_in_multiplier")
    by = {"self_attn.q_proj": [read], "self_attn.k_proj": [one("key_multiplier"), read], "self_attn.v_proj": [read],
          "self_attn.o_proj": [one("attention_out_multiplier")], "mamba.in_proj": [one("ssm_in_multiplier"), rows],
          "mamba.out_proj": [one("ssm_out_multiplier")], "feed_forward.gate_proj": [one("mlp_multipliers", 0)],
          "feed_forward.down_proj": [one("mlp_multipliers", 1)], "lm_head": [one("lm_head_multiplier")],
          "model.embed_tokens": [one("embedding_multiplier")]}
    out, embd = dict(source.tensors), source.tensors.get("model.embed_tokens.weight")
    if c["tie_word_embeddings"] and embd and by["lm_head"] != by["model.embed_tokens"]:
        out["lm_head.weight"], c["tie_word_embeddings"] = embd, False
    for name, t in list(out.items()):
        m = re.fullmatch(r"(?:model\.layers\.\d+\.)?(.+)\.weight", name)
        factors = by.get(m[1], []) if m else []
        if any(np.any(x != 1) for x in factors):
            def load(t=t, factors=factors):
                x = to_f32(np.asarray(t.load()), t.kind)
                for f in factors:
                    x = x * f
                return x
            out[name] = Tensor(t.shape, "float32", load)
    return out


def plan_tensors(source, row, c, d):
    tmap = gguf.get_tensor_name_map(row.arch, max(d["L"], c["num_decoder_layers"] if row.decoder else 0))
    want = wanted(row, layer_kinds(c, row, d), c)
    tensors = multiplied(source, c, d) if row.arch == A.FALCON_H1 else source.tensors
    tied, guesses = c["tie_word_embeddings"], c.get("num_nextn_predict_layers") or 0
    sees = SEEING if c.keys() & {"vision_config", "audio_config"} else None
    sees = SEEING_AROUND if c.get("inside") in TEXT_TYPES else sees
    tied = tied or (row.decoder != "" and "lm_head.weight" not in source.tensors)
    outs, left, seen, ahead = {}, [], 0, 0
    for hf, t in tensors.items():
        if NOT_WEIGHTS.search(hf):
            continue
        if sees and sees.match(hf):
            seen += 1
            continue
        layer = re.match(r"(?:model\.)?layers\.(\d+)\.", hf)
        if re.match(r"(model\.)?mtp\.", hf) or (layer and d["L"] <= int(layer[1]) < d["L"] + guesses):
            ahead += 1
            continue
        targets, index = gguf_names(row, tmap, hf)
        if row.decoder and hf.endswith("coder.embed_tokens.weight") and "shared.weight" in source.tensors:
            continue            # the same again
        if tied and [n for n, _ in targets] == ["output.weight"]:
            continue
        if not targets or any(n not in want for n, _ in targets):
            left.append(hf)
            continue
        if t.kind not in ("float64", "float32", "float16", "bfloat16", "mxfp4"):
            raise Refused(f"{hf}: expected floating-point weights, found {t.kind}")
        if want[targets[0][0]] == DROP:
            if np.any(to_f32(np.asarray(t.load()), t.kind)):
                raise Refused(f"{hf}: expected zeros, for others a {row.called} file has no place")
            continue
        for name, op in targets:
            base, suffix = stem(name)
            op = op or default_op(row, base, source, suffix == "bias")
            if row.arch == A.BAICHUAN and base == "output" and d["V"] == 125696:    # Baichuan 2's head is of unit rows
                op = "unit_rows"
            try:
                op = fitting_op(op, hf, t.shape, tensor_shape(name, row, d)) if "|" in op else op
                shape = OPS[op][0](t.shape, d)
            except IndexError:
                raise Refused(f"{hf}: shape {list(t.shape)} has too few extents") from None
            out = outs.setdefault(name, Out(shape, t.kind, op, {}, hf))
            if index in out.parts or (out.shape, out.kind) != (shape, t.kind):
                raise Refused(f"{hf}: {list(shape)} {t.kind} does not go together with "
                              f"{out.source}: {list(out.shape)} {out.kind}")
            out.parts[index] = t
    if seen:
        note(f"{seen} tensors of the parts that see or hear are left out")
    if ahead:
        note(f"{ahead} tensors of multi-token prediction (mtp), which no answer depends on, are left out")
    if left:
        raise Refused(f"{len(left)} tensors have no place in a {row.called} file: {some(sorted(left))}")
    missing = [n for n, absent in want.items() if n not in outs and (absent == REFUSE or (
        d.get("PL") and n.startswith("per_layer_")))]
    if "output.weight" in want and "output.weight" not in outs and not tied:
        missing.append("output.weight (tie_word_embeddings is off)")
    if missing:
        raise Refused(f"{len(missing)} tensors are missing: {some(missing)}")
    for name, absent in want.items():
        if absent == ZEROS and name not in outs:
            shape = tensor_shape(name, row, d)
            zeros = Tensor(shape, "float32", lambda shape=shape: np.zeros(shape, np.float32))
            outs[name] = Out(shape, "float32", "same", {0: zeros}, name)
    outs = {n: outs[n] for n in want if n in outs}
    for name, out in outs.items():
        check_shape(name, out, row, d)
    return outs


def tensor_shape(name, row, d):
    base, suffix = stem(name)
    layer = re.match(r"blk\.(\d+)\.", name) if "each" in d else None
    shape = extents(row.shapes.get(base, SHAPES[base]), {**d, **d["each"][int(layer[1])]} if layer else d)
    return shape[:-1] if suffix == "bias" and len(shape) > 1 else shape


def check_shape(name, out, row, d):
    shape, found, n = tensor_shape(name, row, d), out.shape, len(out.parts)
    if len(shape) == len(found) + 1:
        if n != shape[0] or max(out.parts) != n - 1:
            raise Refused(f"{name}: expected {shape[0]} parts numbered from 0, found {n} ({out.source})")
        found = (n, *found)
    if found != shape:
        raise Refused(f"{name}: expected {list(shape)} from config.json, found {list(found)} ({out.source})")
    out.shape = shape


def choose_type(name, out, want, notes):
    if out.kind == "mxfp4":
        return Q.MXFP4
    if len(out.shape) == 1 or name.endswith(".bias") or KEEP_F32.search(name):
        return Q.F32
    block = gguf.GGML_QUANT_SIZES[want][0]
    if out.shape[-1] % block:
        notes.append(f"{name} (rows of {out.shape[-1]})")
        return Q.F16
    return want


def convert_rows(name, a, kind, op, qtype, out):
    """Fills out [rows, bytes] from a [rows, columns], a million weights or so at a time."""
    step = max(1, ROW_CHUNK // a.shape[-1])
    for i in range(0, a.shape[0], step):
        x = to_f32(np.ascontiguousarray(a[i:i + step]), kind)
        if op in NUMBERS:
            x = NUMBERS[op](x)
        if not np.isfinite(x).all():
            raise Refused(f"{name}: not all values are finite")
        if qtype == Q.F16 and np.abs(x).max() > 65504:
            raise Refused(f"{name}: {np.abs(x).max():g} does not fit F16; use --type bf16 or f32")
        out[i:i + step] = gguf.quants.quantize(x, qtype).view(np.uint8).reshape(len(x), -1)


def tensor_bytes(name, out, qtype, d):
    """One tensor as it goes into the file; parts are loaded one after the other."""
    if out.kind == "mxfp4":
        a = OPS[out.op][1](out.parts[0].load(), d, out.kind)
        return np.ascontiguousarray(a).reshape(-1)
    columns = out.shape[-1]
    block, size = gguf.GGML_QUANT_SIZES[qtype]
    data = np.empty((math.prod(out.shape[:-1]), columns // block * size), np.uint8)
    rows = len(data) // len(out.parts)
    for i in range(len(out.parts)):
        a = np.asarray(OPS[out.op][1](out.parts[i].load(), d, out.kind))
        if len(out.shape) == 3 and len(out.parts) == 1:
            for j in range(a.shape[0]):     # stacked already; flattening a view would copy all of it
                n = rows // a.shape[0]
                convert_rows(name, a[j].reshape(n, columns), out.kind, out.op, qtype, data[j * n:(j + 1) * n])
        else:
            convert_rows(name, a.reshape(rows, columns), out.kind, out.op, qtype, data[i * rows:(i + 1) * rows])
    return data.reshape(-1)


# ----------------------------------------------------------------------------------------------------------------
# LoRA adapters
# ----------------------------------------------------------------------------------------------------------------
# What adapter_config.json may say; anything else changes the computation.
PEFT_FIXED = {"peft_type": ("LORA",), "use_dora": (None, False), "bias": (None, "none"), "lora_bias": (None, False),
              "layer_replication": (None,), "alora_invocation_tokens": (None,), "ensure_weight_tying": (None, False),
              "trainable_token_indices": (None,), "use_bdlora": (None, False), "arrow_config": (None,),
              "velora_config": (None,), "monteclora_config": (None,), "use_qalora": (None, False),
              "kasa_config": (None,)}
PEFT_NAME = re.compile(r"(.+)\.lora_(?:([AB])(?:\.default)?\.weight|embedding_([AB])(?:\.default)?)")
# What an op does to the rows of B, where experts are [e, rows, r]; the others are of rows already.
ROW_OPS = {"transpose": "same", "flatten": "same", "first_half_out": "first_half", "second_half_out": "second_half",
           "even_out": "even", "odd_out": "odd", "out": "same",
           "first_half_out|first_half": "first_half", "second_half_out|second_half": "second_half", "out|same": "same"}


def read_adapter(path):
    """{module's name in the base model: {"A": [r, in], "B": [out, r]}} as float arrays"""
    file = path / "adapter_model.safetensors"
    tensors = read_safetensors(file) if file.is_file() else None
    if tensors is None:
        file = path / "adapter_model.bin"
        tensors = torch_tensors(file, torch_load(file)) if file.is_file() else {}
    pairs, left = {}, []
    for name, t in tensors.items():
        if name.endswith(".base_layer.weight"):     # PEFT adds the tables of tokens that it has adapters on
            continue
        m = PEFT_NAME.fullmatch(name)
        if not m or t.kind not in KINDS.values() or t.kind == "uint8" or len(t.shape) != 2:
            left.append(name)
            continue
        module = re.sub(r"^(base_model\.model\.)+", "", m[1])
        pairs.setdefault(module, {})[m[2] or m[3]] = to_f32(np.asarray(t.load()), t.kind)
    if left:
        raise Refused(f"{len(left)} tensors are not A or B of a LoRA, such as those of modules_to_save: {some(left)}")
    if not pairs:
        raise Refused(f"{path}: neither adapter_model.safetensors nor adapter_model.bin, or nothing in it")
    for module, p in pairs.items():
        if len(p) != 2 or p["A"].shape[0] != p["B"].shape[1]:
            raise Refused(f"{module}: expected lora_A [r, in] and lora_B [out, r], found "
                          f"{', '.join(f'{k} {list(v.shape)}' for k, v in sorted(p.items()))}")
    return pairs


def expert_names(row, module, a, b, d):
    """The parameter of stacked experts that A and B are for, [GGUF tensors] and its name: PEFT names its module alone,
    the shapes tell."""
    block = re.search(r"\blayers\.(\d+)\.(.+?)(\.base_layer)*$", module)
    wide = d["M"] if "moe_intermediate_size" in row.keys.values() else d["F"]
    shapes = {"gate_up_proj": (d["D"], 2 * wide), "down_proj": (wide, d["D"])}
    for name, shape in shapes.items():
        if block and f"{block[2]}.{name}" in row.names and (a.shape[1], b.shape[0]) == shape:
            found = [(f"blk.{block[1]}.{n}", op) for n, op in row.names[f"{block[2]}.{name}"]]
            return found, re.sub(r"(\.base_layer)*$", "." + name, module)
    return [], module


def plan_adapter(pairs, conf, row, c, d):
    """GGUF tensors and the alpha that their scale becomes alpha / r with."""
    tmap, outs, parts, alpha, left = gguf.get_tensor_name_map(row.arch, d["L"]), {}, {}, None, []
    want = set(wanted(row, layer_kinds(c, row, d), c)) | {"output.weight"}
    for module, p in pairs.items():
        a, b = p["A"], p["B"]
        targets, index = gguf_names(row, tmap, module + ".weight")
        stacked, full = ([], module) if targets else expert_names(row, module, a, b, d)
        if stacked:             # A [(e, r), in], B [out, (r, e)]
            targets, e = stacked, d["E"]
            a = a.reshape(e, -1, a.shape[1])
            b = b.reshape(b.shape[0], -1, e).transpose(2, 0, 1)
        if not targets or any(n not in want or re.search(r"^position_embd|attn_[kv]_b\.", n) for n, _ in targets):
            left.append(module)
            continue
        key = next((k for k in conf.get("alpha_pattern") or {} if re.fullmatch(rf"(.*\.)?({k})", full)), None)
        scale = float(conf["alpha_pattern"][key] if key else conf.get("lora_alpha", 8))
        scale *= math.sqrt(b.shape[-1]) if conf.get("use_rslora") else 1.0     # alpha / r is to be alpha / sqrt(r)
        alpha = alpha or scale
        if not alpha:
            raise Refused("adapter_config.json: lora_alpha = 0: the adapter changes nothing")
        if scale != alpha:
            b = b * np.float32(scale / alpha)
        for name, op in targets:
            base = stem(name)[0]
            op = op or default_op(row, base, Source("", {}, {}))
            if op == "tiled_columns":
                a, op = OPS[op][1](a, d, "float32"), "same"
            rows = OPS[ROW_OPS.get(op, op)][1](b, d, "float32")
            found = parts.setdefault(name, {})
            if index in found:
                raise Refused(f"{module}: {name} has another adapter already")
            found[index] = (a.T if base == "token_embd" else a, rows, bool(stacked))
    if left:
        raise Refused(f"{len(left)} modules have no matrix in a {row.called} file that an adapter "
                      f"can change: {some(left)}")
    for name, found in parts.items():
        shape = tensor_shape(name, row, d)
        shape = shape if len(shape) > 1 else (1, *shape)
        a, b, stacked = found[min(found)]
        if len(shape) == 3 and not stacked:
            if sorted(found) != list(range(shape[0])) or len({x.shape for x, _, _ in found.values()}) != 1:
                raise Refused(f"{name}: expected adapters of one rank for all {shape[0]} experts, found {len(found)}")
            a, b = (np.stack([found[i][k] for i in sorted(found)]) for k in (0, 1))
        r = b.shape[-1]
        sides = ((shape[-2], r), (shape[-1], r)) if name == "token_embd.weight" else ((r, shape[-1]), (shape[-2], r))
        for side, x, two in zip("ab", (a, b), sides):
            if x.shape != (*shape[:-2], *two):
                raise Refused(f"{name}: expected lora_{side} {[*shape[:-2], *two]} from config.json, found "
                              f"{list(x.shape)}")
            t = Tensor(x.shape, "float32", lambda x=x: x)
            outs[f"{name}.lora_{side}"] = Out(x.shape, "float32", "same", {0: t}, name)
    return outs, alpha


def convert_adapter(args):
    conf = read_json(args.source / "adapter_config.json")
    for name, allowed in PEFT_FIXED.items():
        if conf.get(name) not in allowed:
            raise Refused(f"adapter_config.json: {name} = {conf[name]!r} has no place in an adapter's file (expected "
                          f"{' or '.join(map(repr, allowed))})")
    base = args.base or Path(str(conf.get("base_model_name_or_path") or ""))
    if not (base / "config.json").is_file():
        raise Refused(f"{base}: no config.json of the base model there; give --base FOLDER")
    config = model_config(base)
    row = find_row(config, base)
    c = canonical(config, row)
    d = dimensions(c, row)
    if row.arch == A.FALCON_H1:     # whose adapters would have to be multiplied as its weights are
        raise Refused(f"{base}: adapters of {row.hf} are not known")
    outs, alpha = plan_adapter(read_adapter(args.source), conf, row, c, d)
    if "output.weight.lora_a" in outs and c["tie_word_embeddings"]:
        note("the adapter is on the head, which is tied to the embedding: llama.cpp does not read that")

    def head(w):
        w.add_type("adapter")
        w.add_string("adapter.type", "lora")
        w.add_float32("adapter.lora.alpha", alpha)
        w.add_name(args.name or args.source.resolve().name)
    arch = row.called
    save(arch, head, {}, outs, args, d)
    say(f"wrote {args.out}: an adapter for {arch}, {len(outs) // 2} matrices, {args.type}, "
        f"{args.out.stat().st_size / 1e6:.1f} MB")


# ----------------------------------------------------------------------------------------------------------------
# Tokenizers
# ----------------------------------------------------------------------------------------------------------------
SPACE = "▁"         # SentencePiece's visible space
BYTE_TOKEN = re.compile("<0x[0-9A-Fa-f]{2}>")
LONGEST = 256       # bytes of a token that is looked for in texts
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = (int(getattr(gguf.TokenType, n)) for n in
                                                ("NORMAL", "UNKNOWN", "CONTROL", "USER_DEFINED", "UNUSED", "BYTE"))

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"|\s+(?!\S)|\s+"
WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+" + SPACES
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*%s"
CASED_END = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

# The steps of a byte-level pre-tokenizer as `steps` writes them -> tokenizer.ggml.pre
PRE = {
    ("gpt2",): "gpt-2",
    ("digit", "gpt2"): "smollm",
    ("digits", "gpt2"): "digits-gpt2",      # no published name
    (CONTRACTIONS + WORDS % "{1,3}",): "dbrx",      # llama-bpe when whole words are looked up before merging
    (CONTRACTIONS + WORDS % "",): "qwen2",
    (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"
     + SPACES,): "qwen35",
    (CONTRACTIONS + WORDS[:-len(SPACES)] % "{1,3}" + r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)"
     r"|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}",): "jais-2",
    (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+" + SPACES,): "seed-coder",
    (CASED % ("", "") + r"|\p{N}" + CASED_END,): "tekken",
    (CASED % (CONTRACTIONS + "?", CONTRACTIONS + "?") + r"|\p{N}{1,3}" + CASED_END,): "gpt-4o",
    (r"\d{1,3}(?=(?:\d{3})*\b)",
     CASED % (CONTRACTIONS + "?", CONTRACTIONS + "?") + r"|\p{N}{1,3}" + CASED_END): "tiny_aya",
    (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]"
     + SPACES,): "exaone-moe",
    ((WORDS % "")[1:],): "ufakzeka",
    ("punctuation", "gpt2", "digits", "[0-9][0-9][0-9]"): "falcon",
    (r" ?[^(\s|[.,!?…。，、।۔،])]+",): "bloom",
    (r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
     r"[!" '"' r"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
     r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"): "deepseek-v3",
    (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", "digit"): "deepseek-coder",
}
PRE_DEEPSEEK_LLM = (r"[\r\n]", r"\s?[A-Za-z", r"\s?[!-/:-~", r"\s+$", "[一-龥", "digit")   # how its steps begin
# Names that mean the same steps but tell readers of one architecture a little more.
PRE_OF_ARCH = {("smollm", A.STARCODER): "starcoder", ("smollm", A.STARCODER2): "starcoder",
               ("smollm", A.COMMAND_R): "command-r", ("smollm", A.GRANITE): "refact",
               ("smollm", A.COHERE2): "command-r", ("smollm", A.GRANITE_MOE): "refact",
               ("gpt-2", A.PHI2): "phi-2", ("gpt-2", A.OLMO): "olmo", ("gpt-2", A.OLMOE): "olmo",
               ("gpt-2", A.EXAONE4): "exaone4", ("deepseek-v3", A.HUNYUAN_DENSE): "hunyuan-dense",
               ("qwen2", A.HUNYUAN_DENSE): "hunyuan"}
# vocab.json and merges.txt do not say how text is split: by tokenizer_class.
PRE_OF_CLASS = {"GPT2Tokenizer": "gpt-2", "GPTNeoXTokenizer": "gpt-2", "CodeGenTokenizer": "gpt-2",
                "Qwen2Tokenizer": "qwen2", "Qwen3_5Tokenizer": "qwen35"}
WHOLE = ("llama-bpe", "tekken")     # with these, readers look a word up before they merge it


# Hugging Face's name -> GGUF's
SPECIAL = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding", "sep": "seperator", "mask": "mask",
           "cls": "cls"}


@dataclass
class Vocab:
    model: str                                          # gpt2 | llama | t5 | bert
    tokens: list                                        # str, or None for an id that nothing has
    types: list
    pre: str = ""
    scores: list = None
    merges: list = None
    special: dict = field(default_factory=dict)         # bos, eos, unk, pad ... -> id
    ends: list = field(default_factory=list)            # every id that ends a text, eos first
    flags: dict = field(default_factory=dict)           # add_bos_token ... -> bool
    charsmap: bytes = b""
    template: object = None
    frame: dict = field(default_factory=dict)           # bos, eos -> the id that the post-processor puts there
    rstrip: set = field(default_factory=set)            # ids of added tokens that swallow the white space behind them

    def ids(self):
        return {t: i for i, t in enumerate(self.tokens) if t is not None}


def byte_symbols():
    """GPT-2's printable stand-ins for the 256 bytes."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    out, extra = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in out:
            out[b] = chr(256 + extra)
            extra += 1
    return out


def looks_special(text):
    """Markers that chat templates write, whatever a tokenizer's files call them."""
    return bool(re.fullmatch(r"<\|.*\|>|<｜.*｜>|<(start|end)_of_turn>|<fim_.*>", text))


def steps(pre):
    """The pre-tokenizer of a tokenizer.json as a tuple to look up in PRE; None when a part is of an unknown kind."""
    if not pre:
        return None
    if pre["type"] == "Sequence":
        parts = [steps(p) for p in pre["pretokenizers"]]
        return None if None in parts else tuple(s for p in parts for s in p)
    if pre["type"] == "ByteLevel" and not pre.get("add_prefix_space"):
        return ("gpt2",) if pre.get("use_regex", True) else ()
    if pre["type"] == "Digits":
        return ("digit",) if pre.get("individual_digits") else ("digits",)
    if pre["type"] == "Punctuation" and pre.get("behavior") == "Contiguous":
        return ("punctuation",)
    if pre["type"] == "Split" and (pre["behavior"], pre.get("invert")) in (("Isolated", False), ("Removed", True)):
        text = pre["pattern"].get("Regex") or re.escape(pre["pattern"].get("String", ""))
        if pre["behavior"] == "Removed" and not text.endswith(r"|\s+"):     # what the pattern does not match is lost
            return None
        text = text.replace("\r", r"\r").replace("\n", r"\n")
        for form in ("(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])", "'(?i:[sdmt]|ll|ve|re)"):
            text = text.replace(form, CONTRACTIONS)
        return (text,)
    return None


def pre_name(pre, ignore_merges, arch, where):
    """tokenizer.ggml.pre for a pre-tokenizer."""
    found = steps(pre)
    name = PRE.get(found)
    if found and len(found) == 6 and all(a.startswith(b) for a, b in zip(found, PRE_DEEPSEEK_LLM)):
        name = "deepseek-llm"
    if name is None or name == "digits-gpt2":
        raise Refused(f"{where}: pre-tokenizer not known, choose one with --pre NAME: "
                      f"{json.dumps(pre, ensure_ascii=False)[:300]}")
    if name == "dbrx" and ignore_merges:
        name = "llama-bpe"
    return PRE_OF_ARCH.get((name, arch), name)


def place(vocab, i, text, kind, score=-1000.0):
    """Token `i`, growing the list when it lies behind the end."""
    if not isinstance(i, int) or not 0 <= i < 1 << 24:
        raise Refused(f"tokenizer: id {i!r} of {text!r} is not valid")
    if not isinstance(text, str) or not math.isfinite(score):
        raise Refused(f"tokenizer: token {i} is {text!r} with the score {score!r}")
    grow = i + 1 - len(vocab.tokens)
    if grow > 0:
        vocab.tokens += [None] * grow
        vocab.types += [UNUSED] * grow
        if vocab.scores is not None:
            vocab.scores += [-1000.0] * grow
    if vocab.tokens[i] is None and vocab.scores is not None:
        vocab.scores[i] = score
    vocab.tokens[i], vocab.types[i] = text, kind


def add_tokens(vocab, added, where):
    """Added tokens as tokenizer.json has them. What no user may write is control, the rest is matched in plain text."""
    prefix = vocab.flags.get("add_space_prefix", False)
    for t in added:
        i, text = t["id"], t["content"]
        known = i < len(vocab.tokens) and vocab.tokens[i] is not None
        if known and vocab.types[i] in (UNKNOWN, BYTE):
            continue
        if not isinstance(text, str) or len(text.encode()) > LONGEST:
            raise Refused(f"{where}: added token {str(text)[:40]!r}: expected a text of at most {LONGEST} bytes")
        for flag in ("lstrip", "single_word"):
            if t.get(flag):
                raise Refused(f"{where}: added token {text!r} has {flag}, for which GGUF has no place")
        if t.get("rstrip"):
            vocab.rstrip.add(i)
        control = t.get("special") or looks_special(text) or (known and vocab.types[i] == CONTROL)
        if t.get("normalized") and prefix and text not in ("<s>", "</s>", "<unk>", "<pad>"):   # they stand around texts
            raise Refused(f"{where}: added token {text!r} is found in normalised text, so behind a space only, for "
                          "which GGUF has no place (expected normalized = false)")
        if control or vocab.model == "gpt2":
            place(vocab, i, text, CONTROL if control else USER)
        elif not (known and SPACE in text and not t.get("normalized")):     # else only a visible space would match
            place(vocab, i, text.replace(SPACE, " "), USER)
    # tokenizers looks for normalized tokens in what the others leave, readers for the leftmost of all.
    first = {t["content"] for t in added if not t.get("normalized")}
    starts = {t[:k] for t in first for k in range(1, len(t) + 1)}
    for t in {t["content"] for t in added if t.get("normalized")}:
        if any(s in t for s in first) or any(t[i:] in starts for i in range(len(t))):
            raise Refused(f"{where}: added token {t!r} overlaps with one that is not normalized and so comes first, "
                          "for which GGUF has no place")


def check_rstrip(vocab, name):
    """GGUF has no place for white space that a token swallows. Readers know it of Phi-3's tokens, by the name of the
    model and SentencePiece's pieces: of every marker but three."""
    swallow = {i for i in vocab.rstrip if i < len(vocab.tokens)}
    known = set()
    if vocab.model == "llama" and re.search("phi-?3", name.lower()):
        known = {i for i, (t, k) in enumerate(zip(vocab.tokens, vocab.types))
                 if k in (CONTROL, USER, UNKNOWN) and t not in ("<unk>", "<s>", "<|endoftext|>")}
    for i in sorted(swallow ^ known):
        raise Refused(f"tokenizer: added token {vocab.tokens[i]!r} has rstrip = {str(i in swallow).lower()}, GGUF's "
                      f"readers take {str(i in known).lower()} in a file of the name {name!r}")


def from_tokenizer_json(path, arch, pre):
    data = read_json(path)
    model, where = data.get("model") or {}, path.name
    kind = model.get("type") or ("BPE" if "merges" in model else "Unigram")
    if kind == "WordPiece":
        vocab = word_piece(data, model, where)
        add_tokens(vocab, data.get("added_tokens") or [], where)
        add_frame(vocab, data, where)
        return vocab
    if kind not in ("BPE", "Unigram"):
        raise Refused(f"{where}: tokenizer model {kind!r} is not known (expected BPE, Unigram or WordPiece)")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise Refused(f"{where}: {name} = {model[name]!r} has no place in GGUF (expected none)")
    if kind == "BPE" and not model.get("byte_fallback"):
        vocab = byte_level(data, model, arch, pre, where)
    else:
        make = sentencepiece_from_merges if kind == "BPE" else unigram
        vocab = make(model, {t["content"] for t in data.get("added_tokens") or []}, where)
        vocab.flags["add_space_prefix"] = space_prefix(data, vocab.tokens, where)
        if arch == A.GEMMA4 and kind == "BPE":      # whose readers go by the merges
            vocab.model, vocab.scores = "gemma4", [-1000.0] * len(vocab.tokens)
            vocab.merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    add_tokens(vocab, data.get("added_tokens") or [], where)
    add_frame(vocab, data, where)
    return vocab


def word_piece(data, model, where):
    """What begins a word gets a visible space in front, what goes on one loses its ##."""
    norm, pre = data.get("normalizer") or {}, data.get("pre_tokenizer") or {}
    want = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
    if any(norm.get(k) != v for k, v in want.items()) or pre.get("type") != "BertPreTokenizer":
        raise Refused(f"{where}: normalizer {norm} and pre-tokenizer {pre.get('type')} have no place in GGUF beside "
                      f"WordPiece (expected {want} and BertPreTokenizer)")
    if model.get("continuing_subword_prefix") != "##" or model.get("max_input_chars_per_word", 100) != 100:
        raise Refused(f"{where}: expected WordPiece with the prefix ## and words of at most 100 characters")
    vocab = Vocab("bert", [], [])
    for text, i in model["vocab"].items():
        place(vocab, i, text[2:] if text.startswith("##") and len(text) > 2 else SPACE + text, NORMAL)
        if text == model.get("unk_token"):
            place(vocab, i, text, CONTROL)
            vocab.special["unk"] = i
    for name in ("lowercase", "strip_accents"):
        if norm.get(name) is not None:
            vocab.flags["normalizer." + name] = norm[name]
    return vocab


def byte_level(data, model, arch, pre, where):
    norms = {n["type"] for n in flatten(data.get("normalizer"), "normalizers")}
    if norms - {"NFC"}:
        raise Refused(f"{where}: normalizer {'+'.join(sorted(norms))} has no place in GGUF (expected none or NFC)")
    if norms:
        note(f"{where}: the normalizer NFC is not represented; text is expected in that form")
    levels = [p for p in flatten(data.get("pre_tokenizer")) if p["type"] == "ByteLevel"]
    if not levels:
        raise Refused(f"{where}: BPE of characters, neither ByteLevel nor byte_fallback, has no place in GGUF")
    if any(p.get("add_prefix_space") for p in levels):
        raise Refused(f"{where}: add_prefix_space of ByteLevel has no place in GGUF (expected false)")
    name = pre or pre_name(data.get("pre_tokenizer"), model.get("ignore_merges"), arch, where)
    missing = set(byte_symbols().values()) - model["vocab"].keys()
    if missing and model.get("unk_token"):      # readers leave out what has no token
        raise Refused(f"{where}: no token for the byte {min(missing)!r}, and unk_token {model['unk_token']!r} in its "
                      "place is not what GGUF means (expected all bytes, or no unk_token)")
    vocab = Vocab("gpt2", [], [], name)
    for text, i in model["vocab"].items():
        place(vocab, i, text, NORMAL)
    vocab.merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    if any(m.count(" ") != 1 for m in vocab.merges):
        raise Refused(f"{where}: expected merges of two symbols without spaces")
    # Readers look whole words up before they merge with the names of WHOLE. That tells only where merging alone does
    # not make a token.
    added = {t["content"] for t in data.get("added_tokens") or []}
    if not pre and bool(model.get("ignore_merges")) != (name in WHOLE) and (token := unmerged(vocab, added)):
        raise Refused(f"{where}: ignore_merges = {bool(model.get('ignore_merges'))} has no place beside pre-tokenizer "
                      f"{name}: merging does not make {token!r}")
    return vocab


def unmerged(vocab, added):
    """A token, none of the added ones, that byte-pair encoding of its own text does not end in; or None."""
    rank = {m: r for r, m in enumerate(vocab.merges)}
    for token in vocab.tokens:
        parts = list(token or "") if token not in added else []
        while len(parts) > 1:
            best, k = min((rank.get(f"{a} {b}", len(rank)), k) for k, (a, b) in enumerate(zip(parts, parts[1:])))
            if best == len(rank):
                return token
            parts[k:k + 2] = [parts[k] + parts[k + 1]]
    return None


def space_prefix(data, tokens, where):
    """Whether a tokenizer.json with visible spaces puts one before a text. Everything else that its normalizer and
    pre-tokenizer may do has no place in GGUF."""
    prefix, shown = 0, False
    for n in flatten(data.get("normalizer"), "normalizers"):
        if n["type"] == "Prepend" and n["prepend"] == SPACE:
            prefix += 1
        elif n["type"] == "Replace" and n["pattern"] == {"String": " "} and n["content"] == SPACE:
            shown = True
        else:
            raise Refused(f"{where}: normalizer {n['type']} has no place in GGUF (expected Prepend and Replace for "
                          f"visible spaces): {json.dumps(n, ensure_ascii=False)[:200]}")
    for p in flatten(data.get("pre_tokenizer")):
        if p["type"] == "Metaspace" and p.get("replacement") == SPACE:
            shown = True
            scheme = p.get("prepend_scheme", "always" if p.get("add_prefix_space", True) else "never")
            if scheme != "never" and not prefix:
                raise Refused(f"{where}: pre-tokenizer Metaspace with prepend_scheme {scheme!r} puts no space before a "
                              "text that begins with one, GGUF's readers do; a tokenizer.model is needed")
            if p.get("split", True) and (SPACE not in tokens or any(SPACE in (t or "")[1:] for t in tokens)):
                raise Refused(f"{where}: pre-tokenizer Metaspace splits at spaces that tokens contain, for which GGUF "
                              "has no place (expected split = false)")
        elif not (p["type"] == "Split" and shown and p["pattern"] == {"String": " "} and not p.get("invert")):
            raise Refused(f"{where}: pre-tokenizer {p['type']} has no place in GGUF beside visible spaces (expected "
                          f"Metaspace or none): {json.dumps(p, ensure_ascii=False)[:200]}")
    if prefix > 1 or not shown:
        raise Refused(f"{where}: {prefix} spaces before a text, spaces made visible: {shown} (expected at most one, "
                      "True)")
    return bool(prefix)


def add_frame(vocab, data, where):
    """What the post-processor puts around a text: at most one token on either side."""
    vocab.flags.update(add_bos_token=False, add_eos_token=False)
    for p in flatten(data.get("post_processor"), "processors"):
        if p["type"] == "ByteLevel":        # it moves offsets, not tokens
            continue
        if p["type"] in ("BertProcessing", "RobertaProcessing") and not vocab.frame:
            for side, name in (("bos", "cls"), ("eos", "sep")):
                vocab.frame[side] = vocab.special[side] = p[name][1]
                vocab.flags[f"add_{side}_token"] = True
            continue
        names = [s.get("SpecialToken", {}).get("id") for s in p.get("single") or []]
        middle = names.index(None) if None in names else 2
        if p["type"] != "TemplateProcessing" or vocab.frame or names.count(None) != 1 or middle > 1 or \
                len(names) > middle + 2:
            raise Refused(f"{where}: post-processor {p['type']} {names or ''} has no place in GGUF (expected one "
                          "TemplateProcessing with at most one token before and one behind the text)")
        for side, name in (("bos", names[:middle]), ("eos", names[middle + 1:])):
            if name:
                ids = p["special_tokens"][name[0]]["ids"]
                if len(ids) != 1:
                    raise Refused(f"{where}: post-processor: {name[0]!r} stands for {len(ids)} tokens, expected 1")
                vocab.frame[side] = vocab.special[side] = ids[0]
                vocab.flags[f"add_{side}_token"] = True


def flatten(node, inner="pretokenizers"):
    """The parts of a tokenizer.json section, with sequences opened."""
    if not node:
        return []
    return [x for p in node[inner] for x in flatten(p, inner)] if node["type"] == "Sequence" else [node]


def unigram(model, added, where):
    vocab, unk = Vocab("t5", [], [], scores=[]), model.get("unk_id")
    if model.get("byte_fallback"):      # here, and not in SentencePiece, the text "<0x41>" becomes a byte's token
        raise Refused(f"{where}: byte_fallback of a Unigram model has no place in GGUF; a tokenizer.model is needed")
    for i, (text, score) in enumerate(model["vocab"]):
        place(vocab, i, text, UNKNOWN if i == unk else NORMAL, float(score))
    if not isinstance(unk, int) or not 0 <= unk < len(vocab.tokens):
        raise Refused(f"{where}: unk_id is {unk!r}, expected the id of a token")
    vocab.special["unk"] = unk
    plain = [s for s, k, t in zip(vocab.scores, vocab.types, vocab.tokens) if k == NORMAL and t not in added]
    if min(vocab.scores) != min([0.0, *plain]):     # what an unknown character costs is counted from the lowest
        raise Refused(f"{where}: the lowest score, {min(vocab.scores):g}, is no plain token's")
    return vocab


def sentencepiece_from_merges(model, added, where):
    """Byte-fallback BPE in tokenizer.json was made from SentencePiece scores: merges sorted by the piece they make. The
    piece's first rank is its score again, provided that the merges of one piece stand together and are all the ways to
    cut it in two."""
    vocab, ways, last, byte = Vocab("llama", [], [], scores=[]), {}, None, {f"<0x{b:02X}>" for b in range(256)}
    missing = byte - model["vocab"].keys()
    if missing:
        raise Refused(f"{where}: byte_fallback without the token {min(missing)}")
    for r, m in enumerate(model["merges"]):
        left, right = m.split(" ") if isinstance(m, str) else m
        piece = left + right
        if piece in ways and piece != last and piece not in added:
            raise Refused(f"{where}: the merges that make {piece!r} do not stand together, so it has no score; "
                          "a tokenizer.model is needed")
        ways.setdefault(piece, (r, set()))[1].add(left)
        last = piece
    if model.get("ignore_merges"):
        raise Refused(f"{where}: ignore_merges has no place in GGUF beside byte_fallback (expected false)")
    for text, i in model["vocab"].items():
        kind = UNKNOWN if text == model.get("unk_token") else BYTE if text in byte else NORMAL
        rank, lefts = ways.get(text, (len(model["merges"]), set()))
        for k in range(1, len(text)) if kind == NORMAL and text not in added else ():
            if text[:k] in model["vocab"] and text[k:] in model["vocab"] and text[:k] not in lefts:
                raise Refused(f"{where}: {text!r} is not made of {text[:k]!r} and {text[k:]!r}, which scores cannot "
                              "say; a tokenizer.model is needed")
        place(vocab, i, text, kind, -float(rank) if kind == NORMAL else 0.0)
        if kind == UNKNOWN:
            vocab.special["unk"] = i
    return vocab


def from_sentencepiece(path):
    try:
        from sentencepiece import sentencepiece_model_pb2 as pb
    except ImportError as e:
        raise Refused(f"{path}: reading it needs sentencepiece and protobuf ({e})") from None
    proto = pb.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except Exception as e:      # protobuf's DecodeError has no stable home
        raise Refused(f"{path}: not a SentencePiece model: {e}") from None
    kind = {1: "t5", 2: "llama"}.get(proto.trainer_spec.model_type)
    if kind is None or not proto.pieces:
        raise Refused(f"{path}: SentencePiece model type {proto.trainer_spec.model_type} is not known "
                      "(expected BPE or Unigram)")
    vocab = Vocab(kind, [], [], scores=[])
    types = {1: NORMAL, 2: UNKNOWN, 3: CONTROL, 4: USER, 6: BYTE}
    spec, train = proto.normalizer_spec, proto.trainer_spec
    for wrong, what in ((not spec.escape_whitespaces, "escape_whitespaces = false"),
                        (train.treat_whitespace_as_suffix, "treat_whitespace_as_suffix"),
                        (kind == "llama" and spec.precompiled_charsmap, f"normalisation {spec.name!r} of a BPE model"),
                        (kind == "llama" and spec.remove_extra_whitespaces, "remove_extra_whitespaces of a BPE model")):
        if wrong:
            raise Refused(f"{path}: {what} has no place in GGUF")
    markers = []
    for i, p in enumerate(proto.pieces):
        if p.type not in types:
            raise Refused(f"{path}: piece {i}, {p.piece!r}, has the type {p.type}, for which GGUF has no place")
        place(vocab, i, p.piece.replace(SPACE, " ") if p.type == 4 else p.piece, types[p.type], p.score)
        if p.type == 4 and re.fullmatch(r"\[/?[A-Z0-9_]+\]", p.piece):      # Mistral's
            markers.append(p.piece)
            vocab.types[i] = CONTROL
    if markers:
        note(f"{path}: {some(markers)} are control tokens, which plain text does not become")
    if USER in vocab.types and (kind == "t5" or spec.add_dummy_prefix):
        raise Refused(f"{path}: user-defined symbol {vocab.tokens[vocab.types.index(USER)]!r}: GGUF's readers "
                      + ("always take it" if kind == "t5" else "put a space behind it") + ", SentencePiece does not")
    vocab.flags = {"add_space_prefix": spec.add_dummy_prefix, "add_bos_token": True, "add_eos_token": False}
    if kind == "t5":
        vocab.charsmap = spec.precompiled_charsmap
        vocab.flags.update(remove_extra_whitespaces=spec.remove_extra_whitespaces, add_bos_token=False)
        del vocab.flags["add_eos_token"]        # the model's kind decides, see add_special
    for name in ("unk", "bos", "eos"):
        i = getattr(proto.trainer_spec, name + "_id")
        if 0 <= i < len(vocab.tokens):
            vocab.special[name] = i
    return vocab


def from_vocab_and_merges(vocab_path, merges_path, pre):
    vocab = Vocab("gpt2", [], [], pre)
    for text, i in read_json(vocab_path).items():
        place(vocab, i, text, CONTROL if looks_special(text) or text == "<|endoftext|>" else NORMAL)
    lines = merges_path.read_text(encoding="utf-8").split("\n")
    vocab.merges = [x.rstrip("\r") for x in lines[int(lines[0].startswith("#version")):] if x.strip()]
    if any(m.count(" ") != 1 for m in vocab.merges):
        raise Refused(f"{merges_path}: expected two symbols on each line")
    end = vocab.ids().get("<|endoftext|>")
    if end is not None:
        vocab.special = {"bos": end, "eos": end} if pre == "gpt-2" else {"eos": end}
    return vocab


def from_llama2c(path, size):
    """llama2.c's tok.bin: int32 longest token, then per token float32 score, int32 length, bytes (a space where
    SentencePiece has its mark)."""
    data, at = path.read_bytes(), 4
    vocab = Vocab("llama", [], [], scores=[])
    for i in range(size):
        if at + 8 > len(data):
            raise Refused(f"{path}: expected {size} tokens, found {i}")
        score, n = struct.unpack_from("<fi", data, at)
        if n < 0 or at + 8 + n > len(data):
            raise Refused(f"{path}: token {i} of {n} bytes runs over the end of the file")
        text = data[at + 8:at + 8 + n].decode("utf-8", "strict")
        at += 8 + n
        kind = BYTE if BYTE_TOKEN.fullmatch(text) else NORMAL
        if i < 3:
            text, kind = ("<unk>", "<s>", "</s>")[i], (UNKNOWN, CONTROL, CONTROL)[i]
        place(vocab, i, text.replace(" ", "▁"), kind, score)
    if at != len(data):
        raise Refused(f"{path}: {len(data) - at} bytes behind the last of {size} tokens")
    # Stories follow each other with <s> between them and no </s>, and llama2.c stops at it.
    vocab.special, vocab.ends = {"unk": 0, "bos": 1, "eos": 2}, [2, 1]
    vocab.flags = {"add_space_prefix": True, "add_bos_token": True, "add_eos_token": False}
    return vocab


def from_llmc(path, data):
    """llm.c's gpt2_tokenizer.bin."""
    magic, version, size, *rest = struct.unpack_from("<4i", data)
    at, raw = 1024, []
    for i in range(size):
        n = data[at] if at < len(data) else 0
        raw.append(data[at + 1:at + 1 + n])
        at += 1 + n
    if version not in (1, 2) or at != len(data):
        raise Refused(f"{path}: not an llm.c tokenizer of version 1 or 2")
    end = rest[0] if version == 2 else size - 1
    vocab = Vocab("gpt2", [], [], "gpt-2", merges=[])
    place(vocab, end, "<|endoftext|>", CONTROL)
    add_ranked(vocab, {i: t for i, t in enumerate(raw) if i != end}, path)
    vocab.special, vocab.ends, vocab.flags = {"bos": end, "eos": end}, [end], {"add_bos_token": False}
    return vocab


def add_ranked(vocab, raw, path):
    """Tokens {id: bytes} without merges: the smaller id is merged first, so a token's merge is the last one that
    merging its bytes with smaller ids leaves undone."""
    symbols, ranks, none = byte_symbols(), {t: i for i, t in raw.items()}, 1 << 30
    for i, t in raw.items():
        place(vocab, i, "".join(symbols[b] for b in t), NORMAL)
        if len(t) < 2:
            continue
        parts = [t[k:k + 1] for k in range(len(t))]
        while len(parts) > 2 and len(t) <= 1024:
            r, k = min((ranks.get(a + b, none), k) for k, (a, b) in enumerate(zip(parts, parts[1:])))
            if r >= i:
                break
            parts[k:k + 2] = [parts[k] + parts[k + 1]]
        if len(parts) != 2:
            raise Refused(f"{path}: token {i} is not made of two earlier ones")
        vocab.merges.append(" ".join("".join(symbols[b] for b in p) for p in parts))


TEKKEN_SPECIAL = ("<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] "
                  "[TOOL_CALLS] [IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] "
                  "[/SYSTEM_PROMPT] [TOOL_CONTENT]").split()       # of files that do not list theirs


def from_tekken(path):
    """Mistral's tekken.json: special tokens, then the others in the order of their ranks, more than are used."""
    data = read_json(path)
    config, vocab = data["config"], Vocab("gpt2", [], [], "tekken", merges=[])
    pattern = {"type": "Split", "behavior": "Isolated", "invert": False, "pattern": {"Regex": config["pattern"]}}
    if PRE.get(steps(pattern)) != "tekken":
        raise Refused(f"{path}: pattern not known (expected Tekken's): {config['pattern'][:200]!r}")
    n, size = config["default_num_special_tokens"], config["default_vocab_size"]
    names = data.get("special_tokens")
    if names is None:
        names = [{"rank": i, "token_str": t} for i, t in enumerate(TEKKEN_SPECIAL)]
    if not len(names) <= n <= size <= n + len(data["vocab"]):
        raise Refused(f"{path}: {n} special tokens of {size} do not go together with the {len(names)} and "
                      f"{len(data['vocab'])} that are listed")
    for i in range(len(names), n):
        place(vocab, i, f"<SPECIAL_{i}>", CONTROL)
    for t in names:
        place(vocab, t["rank"], t["token_str"], CONTROL)
    raw = [base64.b64decode(t["token_bytes"]) for t in data["vocab"][:size - n]]
    if len(vocab.tokens) != n or None in vocab.tokens or raw[:256] != [bytes([b]) for b in range(256)]:
        raise Refused(f"{path}: expected special tokens of the ranks below {n}, then others, the 256 bytes first")
    add_ranked(vocab, {n + i: t for i, t in enumerate(raw)}, path)
    ids = vocab.ids()
    named = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>"}
    vocab.special = {k: ids[t] for k, t in named.items() if t in ids}
    vocab.flags = {"add_bos_token": True, "add_eos_token": False}
    return vocab


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"{module}.{name} in it")


def from_char_meta(path):
    """nanoGPT's meta.pkl of character models: single characters as tokens, no merges. One byte each, or they could not
    be found again."""
    try:
        meta = _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
        chars = {i: c for i, c in meta["itos"].items()}
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError, IndexError, ValueError) as e:
        raise Refused(f"{path}: not a nanoGPT meta.pkl: {e}") from None
    vocab, symbols = Vocab("gpt2", [], [], "gpt-2", merges=[]), byte_symbols()
    for i, c in sorted(chars.items()):
        if not isinstance(c, str) or len(c.encode()) != 1:
            raise Refused(f"{path}: token {i} is {c!r}, expected one ASCII character")
        place(vocab, i, symbols[ord(c)], NORMAL)
    vocab.flags["add_bos_token"] = False
    return vocab


SP_FILE = re.compile(r"\.model(\.v\d+(m\d+)?)?$")


def load_vocab(path, arch, size, pre):
    """The tokenizer in a folder or file."""
    if not path.exists():
        raise Refused(f"{path}: no such file or folder")
    if path.is_dir():
        has = {n: path / n for n in ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "encoder.json",
                                     "merges.txt", "vocab.bpe") if (path / n).is_file()}
        versions = sorted(f for f in path.glob("*.model.v*") if SP_FILE.search(f.name))
        if versions:        # Mistral's names: tokenizer.model.v3
            if len(versions) > 1 and "tokenizer.model" not in has:
                raise Refused(f"{path}: {some([f.name for f in versions])}: choose one with --tokenizer")
            has.setdefault("tokenizer.model", versions[0])
        if (path / "spiece.model").is_file():
            has.setdefault("tokenizer.model", path / "spiece.model")        # T5's name
        conf = read_json(path / "tokenizer_config.json", needed=False)
        vocab = None
        if "tokenizer.json" in has:
            data = read_json(has["tokenizer.json"])
            model = data.get("model") or {}
            byte_bpe = model.get("type", "BPE") == "BPE" and not model.get("byte_fallback")
            split = (data.get("pre_tokenizer") or {}).get("type")
            if byte_bpe and split == "ByteLevel" and conf.get("add_prefix_space"):
                raise Refused(f"{path}: tokenizer_config.json: add_prefix_space has no place in GGUF")
            if byte_bpe or "tokenizer.model" not in has:
                vocab = from_tokenizer_json(has["tokenizer.json"], arch, pre)
        if vocab is None and "tokenizer.model" in has:
            vocab = from_sentencepiece(has["tokenizer.model"])
            if "tokenizer.json" in has:
                add_tokens(vocab, data.get("added_tokens") or [], "tokenizer.json")
                add_frame(vocab, data, "tokenizer.json")
        if vocab is None and "tekken.json" in has:
            vocab = from_tekken(has["tekken.json"])
        words, merges = has.get("vocab.json") or has.get("encoder.json"), has.get("merges.txt") or has.get("vocab.bpe")
        if vocab is None and words and merges:
            kind = str(conf.get("tokenizer_class", "GPT2Tokenizer")).removesuffix("Fast")
            if arch in (A.QWEN35, A.QWEN35MOE):     # published with the class of Qwen 2, which splits otherwise
                kind = "Qwen3_5Tokenizer"
            if conf.get("add_prefix_space"):
                raise Refused(f"{path}: tokenizer_config.json: add_prefix_space has no place in GGUF")
            if not pre and kind not in PRE_OF_CLASS:
                raise Refused(f"{path}: tokenizer_class {kind} does not say how text is split; choose with --pre NAME")
            vocab = from_vocab_and_merges(words, merges, pre or PRE_OF_CLASS[kind])
        if vocab is None:
            raise Refused(f"{path}: no tokenizer.json, tokenizer.model, tekken.json, or vocab.json with "
                          "merges.txt; "
                          "give --tokenizer PATH or --no-tokenizer")
        add_special(vocab, path, conf)
        return vocab
    data = path.read_bytes()[:1024]
    if path.suffix == ".json":
        vocab = from_tekken(path) if "tekken" in path.name else from_tokenizer_json(path, arch, pre)
        add_special(vocab, path.parent, {})
        return vocab
    if SP_FILE.search(path.name):
        return from_sentencepiece(path)
    if path.suffix == ".pkl":
        return from_char_meta(path)
    if len(data) == 1024 and struct.unpack_from("<i", data)[0] == 20240328:
        return from_llmc(path, path.read_bytes())
    if path.suffix == ".bin":
        return from_llama2c(path, size)
    raise Refused(f"{path}: not a tokenizer file known here (tokenizer.json, tekken.json, *.model, tok.bin, "
                  "meta.pkl, or a folder)")


def add_special(vocab, folder, conf):
    """Special tokens, end tokens and chat templates from the small files of a Hugging Face folder."""
    for i, t in (conf.get("added_tokens_decoder") or {}).items():
        add_tokens(vocab, [{**t, "id": int(i)}], "tokenizer_config.json")
    ids = vocab.ids()
    for text, i in read_json(folder / "added_tokens.json", needed=False).items():
        if text not in ids:
            add_tokens(vocab, [{"id": i, "content": text}], "added_tokens.json")
    ids = vocab.ids()
    names = read_json(folder / "special_tokens_map.json", needed=False)
    names.update({k: v for k, v in conf.items() if v is not None})
    model, generation = (read_json(folder / n, needed=False) for n in ("config.json", "generation_config.json"))

    def usable(i):      # a default of config.json may name an ordinary token
        return isinstance(i, int) and 0 <= i < len(vocab.tokens) and vocab.types[i] != NORMAL
    for name in SPECIAL:
        text = names.get(name + "_token")
        i = ids.get(text.get("content") if isinstance(text, dict) else text)
        if i is not None:
            vocab.special[name] = i
            vocab.types[i] = CONTROL if vocab.types[i] == NORMAL else vocab.types[i]
        elif name not in vocab.special:
            i = next((c[name + "_token_id"] for c in (generation, model) if usable(c.get(name + "_token_id"))), None)
            vocab.special.update({name: i} if i is not None else {})
    for name in ("add_bos_token", "add_eos_token"):
        if isinstance(conf.get(name), bool):
            vocab.flags[name] = conf[name]
    vocab.flags.setdefault("add_bos_token", False)
    vocab.flags.setdefault("add_eos_token", "T5" in str(conf.get("tokenizer_class", "T5" if model.get("model_type") in (
        "t5", "mt5", "umt5") else "")))
    ends = [vocab.special["eos"]] if "eos" in vocab.special else []
    lists = [c["eos_token_id"] for c in (generation, model) if isinstance(c.get("eos_token_id"), list)]
    for e in (*lists, [c.get("eos_token_id") for c in (generation, model)]):
        ends += [i for i in e if usable(i)]
    vocab.ends = list(dict.fromkeys(ends))
    if vocab.ends:
        vocab.special["eos"] = vocab.ends[0]
    template = folder / "chat_template.jinja"
    vocab.template = conf.get("chat_template")
    if not vocab.template:
        vocab.template = read_json(folder / "chat_template.json", needed=False).get("chat_template")
    if template.is_file():
        vocab.template = template.read_text(encoding="utf-8")
    if isinstance(vocab.template, str) and not lists:
        for text in ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|eom_id|>"):
            if text in vocab.template and text in ids and ids[text] not in vocab.ends:
                vocab.ends.append(ids[text])


# The ids that readers take where a file names none.
DEFAULT_IDS = {"gpt2": {}, "llama": {"bos": 1, "eos": 2, "unk": 0}, "t5": {"eos": 1, "unk": 2},
               "bert": {"bos": 101, "eos": 102, "unk": 100}}


def check_special(vocab):
    if vocab.model not in ("gpt2", "bert"):
        for t, k in zip(vocab.tokens, vocab.types):
            if k == NORMAL and BYTE_TOKEN.fullmatch(t):
                raise Refused(f"tokenizer: {t!r} is a piece of text, GGUF's readers take it for a byte")
    for side, i in vocab.frame.items():
        named = vocab.special.get(side)
        if vocab.flags[f"add_{side}_token"] and named != i:
            raise Refused(f"tokenizer: the post-processor adds token {i}, {side}_token is {named}")
    for name, i in DEFAULT_IDS[vocab.model].items():
        if name not in vocab.special and i < len(vocab.tokens) and vocab.types[i] in (NORMAL, USER):
            raise Refused(f"tokenizer: no {name}_token is named, and GGUF's readers would take token {i}, "
                          f"{vocab.tokens[i]!r}, for it")


def fit_vocab(vocab, size):
    """As many tokens as the embedding has rows."""
    if len(vocab.tokens) > size:
        beyond = [t for t, k in zip(vocab.tokens[size:], vocab.types[size:]) if k == NORMAL]
        if beyond:
            raise Refused(f"tokenizer: {len(vocab.tokens)} tokens, the embedding has {size} rows "
                          f"(first beyond: {beyond[0]!r})")
        note(f"tokenizer: {len(vocab.tokens) - size} added tokens have no row in the embedding and are left out")
        del vocab.tokens[size:], vocab.types[size:]
        if vocab.scores is not None:
            del vocab.scores[size:]
        vocab.special = {k: i for k, i in vocab.special.items() if i < size}
        vocab.ends = [i for i in vocab.ends if i < size]
    for i in range(size):
        if i >= len(vocab.tokens) or vocab.tokens[i] is None:
            place(vocab, i, f"[PAD{i}]", UNUSED)
    twice = len(vocab.tokens) - len(set(vocab.tokens))
    if twice:
        note(f"tokenizer: {twice} tokens have the text of another one")


def add_vocab(w, vocab):
    w.add_tokenizer_model(vocab.model)
    if vocab.pre or vocab.model != "gpt2":
        w.add_tokenizer_pre(vocab.pre or "default")
    w.add_token_list(vocab.tokens)
    w.add_token_types(vocab.types)
    if vocab.scores is not None:
        w.add_token_scores(vocab.scores)
    if vocab.merges:
        w.add_token_merges(vocab.merges)
    for name in SPECIAL:
        if name in vocab.special:
            w.add_uint32(f"tokenizer.ggml.{SPECIAL[name]}_token_id", vocab.special[name])
    rest = vocab.ends[1:]
    eom = next((i for i in rest if vocab.tokens[i] == "<|eom_id|>"), None)
    rest = sorted((i for i in rest if i != eom), key=lambda i: vocab.tokens[i] not in
                  ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>"))
    if eom is not None:
        w.add_eom_token_id(eom)
    if rest:
        w.add_eot_token_id(rest[0])
    if len(rest) > 1:       # no published key holds more; readers that know this one stop at all of them
        w.add_array("tokenizer.ggml.eos_token_ids", vocab.ends)
    for name, value in vocab.flags.items():
        w.add_bool(f"tokenizer.ggml.{name}", bool(value))
    if vocab.charsmap:
        w.add_precompiled_charsmap(vocab.charsmap)
    if vocab.template:
        w.add_chat_template(vocab.template)


# ----------------------------------------------------------------------------------------------------------------
# The program
# ----------------------------------------------------------------------------------------------------------------
def quantisable():
    out = []
    for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"):
        try:
            gguf.quants.quantize(np.zeros((1, 256), np.float32), Q[name])
            out.append(name.lower())
        except (NotImplementedError, KeyError):
            pass
    return out


FILE_TYPE = {"F32": "ALL_F32"}


def checked(path, function, *args):
    """What a damaged file makes a parser stumble over, in one line."""
    try:
        return function(*args)
    except (Refused, OSError, MemoryError):
        raise
    except Exception as e:
        raise Refused(f"{path}: malformed: {type(e).__name__}: {str(e)[:200]}") from None


def convert(args):
    adapter = args.source.is_dir() and (args.source / "adapter_config.json").is_file()
    if not args.type:
        args.type = "f32" if adapter else "f16"
    if adapter:
        convert_adapter(args)
        return
    source = open_source(args.source, args)
    row = find_row(source.config, args.source)
    c = canonical(source.config, row)
    d = dimensions(c, row)
    d["A"], d["P"] = source.embedder.get("dense_2_feat_out", 0), source.embedder.get("dense_3_feat_out", 0)
    if d["L"] > len(source.tensors):
        raise Refused(f"config: num_hidden_layers = {d['L']}, but there are {len(source.tensors)} tensors")
    check_fixed(c, row, d)
    numbers = layer_numbers(source, row, d)
    outs = plan_tensors(source, row, c, d)
    vocab = None
    if not args.no_tokenizer:
        where = args.tokenizer or source.vocab_path
        if where is None:
            raise Refused(f"{args.source}: this kind of file has no tokenizer in it; "
                          "give --tokenizer PATH or --no-tokenizer")
        vocab = checked(where, load_vocab, where, row.arch, d["V"], args.pre)
        fit_vocab(vocab, d["V"])
        check_special(vocab)
        check_rstrip(vocab, args.name or source.name)

    arch, extra = row.called, {}

    def head(w):
        model_head(w, source, row, c, d, extra, vocab, args)
        for key, values in numbers.items():
            w.add_array(key, values)
    save(arch, head, extra, outs, args, d)
    words = f"a {vocab.model} tokenizer of {len(vocab.tokens)} tokens" if vocab else "no tokenizer"
    say(f"wrote {args.out}: {arch}, {d['L']} layers, {len(outs)} tensors, {args.type}, {words}, "
        f"{args.out.stat().st_size / 1e6:.1f} MB")


def save(arch, head, extra, outs, args, d):
    tmp = args.out.with_name(f".{args.out.name}.{os.getpid()}.tmp")
    w = gguf.GGUFWriter(None, arch)
    try:
        head(w)
        write(w, tmp, extra, outs, Q[args.type.upper()], d)
        os.replace(tmp, args.out)
    finally:
        w.close()
        tmp.unlink(missing_ok=True)


def model_head(w, source, row, c, d, extra, vocab, args):
    arch, qtype = row.called, Q[args.type.upper()]
    w.add_type("model")
    w.add_name(args.name or source.name)

    def put(key, value):
        if isinstance(value, list):
            whole = all(type(x) in (bool, int) and 0 <= x < 2**31 for x in value)
            if not value or not (whole or all(type(x) is float and x < 3e38 for x in value)):
                raise Refused(f"config: {key} = {value!r} are not numbers that GGUF holds")
            w.add_array(f"{arch}.{key}", value)
            return
        if not isinstance(value, str) and not (abs(value) < 3e38 if isinstance(value, float) else 0 <= value < 2**32):
            raise Refused(f"config: {key} = {value!r} is not a number that GGUF holds")
        add = {bool: w.add_bool, int: w.add_uint32, float: w.add_float32, str: w.add_string}[type(value)]
        add(f"{arch}.{key}", value)
    add_config(put, extra, c, row, d)
    for key, value in source.embedder.items():
        put(key, value)
    if d["Y"]:
        w.add_token_type_count(d["Y"])
    w.add_file_type(gguf.LlamaFileType[FILE_TYPE.get(qtype.name, f"MOSTLY_{qtype.name}")])
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    if vocab:
        add_vocab(w, vocab)
    else:
        w.add_tokenizer_model("none")


def write(w, tmp, extra, outs, qtype, d):
    plan, notes = [], []
    for name, out in outs.items():
        t = choose_type(name, out, qtype, notes)
        block, size = gguf.GGML_QUANT_SIZES[t]
        plan.append((name, out, t, math.prod(out.shape) // block * size))
    if notes:
        block = gguf.GGML_QUANT_SIZES[qtype][0]
        note(f"{len(notes)} tensors become F16, their rows are no multiple of {block}: {some(notes)}")
    for name, values in extra.items():
        w.add_tensor_info(name, values.shape, values.dtype, values.nbytes, Q.F32)
    for name, out, t, size in plan:
        w.add_tensor_info(name, out.shape, np.dtype(np.float32), size, t)
    w.write_header_to_file(tmp)
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    with tqdm(total=sum(p[3] for p in plan), unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
        for values in extra.values():
            w.write_tensor_data(values)
        for name, out, t, size in plan:
            bar.set_description(name, refresh=False)
            w.write_tensor_data(tensor_bytes(name, out, t, d))
            bar.update(size)


def parse_args():
    known = ((MODEL_TYPES, "model_type of Hugging Face folders (in config.json):"),
             (" ".join(sorted(TEXT_TYPES, key=str.lower)), "of models that also see or hear, of which text is kept:"))
    p = argparse.ArgumentParser(prog="convert_weights.py", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter, epilog="\n\n".join(
                                    what + "\n" + textwrap.indent(textwrap.fill(names, 98), "  ")
                                    for names, what in known))
    p.add_argument("source", metavar="SOURCE", type=Path, help="folder or file to convert")
    p.add_argument("-o", "--out", metavar="OUT.gguf", type=Path, required=True,
                   help="file to write; it appears when it is complete")
    p.add_argument("--type", choices=quantisable(),
                   help="of the matrices (default f16, of an adapter f32); vectors, norms and routers stay f32, rows "
                        "that do not divide into blocks become f16; other types: build/quantize")
    p.add_argument("--tokenizer", metavar="PATH", type=Path,
                   help="tokenizer folder or file, when it is not beside the weights: a folder, tokenizer.json, "
                        "tokenizer.model, tekken.json, llama2.c's tok.bin, llm.c's gpt2_tokenizer.bin, nanoGPT's "
                        "meta.pkl of ASCII characters")
    p.add_argument("--no-tokenizer", action="store_true", help="write no tokenizer; token ids go in and come out")
    p.add_argument("--pre", metavar="NAME", default="",
                   help="tokenizer.ggml.pre, when the pre-tokenizer is not recognised")
    p.add_argument("--name", default="", help="general.name (default: the name of the source)")
    p.add_argument("--base", metavar="FOLDER", type=Path,
                   help="folder with the config.json of the model that an adapter is for (default: the folder that "
                        "adapter_config.json names)")
    p.add_argument("--n-head", type=int, metavar="N", help="attention heads of a minGPT checkpoint")
    p.add_argument("--gelu", choices=("erf", "tanh"), default="erf",
                   help="activation of a nanoGPT checkpoint (default erf)")
    return p.parse_args()


def main():
    args = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # so that the unfinished file is removed
    try:
        if args.out.is_dir() or not args.out.resolve().parent.is_dir():
            raise Refused(f"{args.out}: cannot be written: its folder is missing or it is a folder itself")
        if args.out.resolve() == args.source.resolve():
            raise Refused(f"{args.out}: is the source")
        checked(args.source, convert, args)
    except Refused as e:
        say(f"error: {e}")
        return 1
    except (OSError, MemoryError) as e:
        say(f"error: {e or 'out of memory'}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
