#!/usr/bin/env python3
"""Writes tests/golden/model: seeded toy models as GGUF, with what transformers computes from them.

    python tests/make_goldens.py [NAME ...]     all toys, or the named ones; see `requirements` below

Each toy is a `transformers` model of odd sizes with random weights (norms, biases and sinks too: nothing sits at its
neutral value). It is saved as a Hugging Face folder, config.json in the form its makers publish, converted by
tools/convert_weights.py to F32 GGUF, and evaluated in float64 with eager attention and without a cache, except for
the few places where transformers itself casts to float32 (softmax, norms and rope of most models). The text format:

    # comment
    context N            sessions in the test must be made with this context
    prompt T T ...
    greedy T T ...       continuation of the prompt; the best logit leads by more than 1e-3 at every step
    logits P V V ...     the logits after position P of prompt + greedy
    tensor NAME R C V .. an intermediate of the first R positions of the prompt, [R, C] row-major

Toys whose weights are quantised get the dequantised weights in transformers too, and the activations that enter their
products are rounded as gpt.h rounds them (8 bits per block of 32), so that float32 arithmetic alone remains.

requirements: torch transformers gguf safetensors numpy; llama-cpp-python is optional and then a second opinion. The toys
whose names end in _cpp need LLAMA_CPP, a folder with llama.cpp's sources, whose converter writes their files.
"""
import json
import math
import os
import re
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "golden", "model")
CONVERT = os.path.join(HERE, "..", "tools", "convert_weights.py")
N_PROMPT, N_GREEDY, N_PEER = 20, 32, 64
TRACE_ROWS = 4

# ---- the toys --------------------------------------------------------------------------------------------------
# One entry: published config.json (model_type and architectures first) and, with a leading underscore, our options:
# _context (128), _trace; standard deviations: _gain (1.5, of projections times sqrt(fan-in)), _head (3, of an untied
# output likewise), _embed (0.7); _final (0, added to the last norm's weights); _quant: {part of a name: formats};
# _peer: what llama.cpp is known to compute otherwise; _as: config.json of a model with code of its own, whose sums are this
# one's under its own names: what llama.cpp converts; _change: a function here that changes the model's sums to theirs.

BASE = dict(hidden_size=30, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, head_dim=8,
            intermediate_size=44, vocab_size=97, max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=10000.0,
            hidden_act="silu", tie_word_embeddings=False, bos_token_id=1, eos_token_id=2)


def toy(model_type, arch, **over):
    """BASE with changes; None removes a key that the architecture's published configs do not have."""
    conf = dict(BASE, model_type=model_type, architectures=[arch])
    conf.update(over)
    return {k: v for k, v in conf.items() if v is not None}


def llama(**over):
    return toy("llama", "LlamaForCausalLM", **over)


GPT2 = dict(model_type="gpt2", architectures=["GPT2LMHeadModel"], n_embd=27, n_head=3, n_layer=2, n_inner=50,
            n_positions=128, n_ctx=128, vocab_size=97, activation_function="gelu_new", layer_norm_epsilon=1e-5,
            bos_token_id=1, eos_token_id=2)

NEOX = dict(hidden_size=36, num_attention_heads=3, intermediate_size=52, num_key_value_heads=None,
            head_dim=None, rms_norm_eps=None, layer_norm_eps=1e-5, hidden_act="gelu")
GEMMA = dict(hidden_size=30, _embed=0.25, _final=3.0, hidden_act="gelu_pytorch_tanh",
             hidden_activation="gelu_pytorch_tanh", tie_word_embeddings=True, rms_norm_eps=1e-6)
GEMMA2 = dict(GEMMA, query_pre_attn_scalar=8, sliding_window=8)
OSS_YARN = {"rope_type": "yarn", "factor": 4.0, "beta_fast": 8.0, "beta_slow": 1.0, "truncate": False,
            "original_max_position_embeddings": 32}
NO_WINDOW = {"sliding_window": None}
LFM2 = dict(hidden_size=18, num_attention_heads=3, num_key_value_heads=1, head_dim=None, intermediate_size=14,
            num_hidden_layers=3, vocab_size=67, rms_norm_eps=None, norm_eps=1e-5, conv_bias=False, conv_L_cache=3,
            hidden_act=None, tie_word_embeddings=True, _llama_cpp=True)
MOE = dict(num_experts=5, moe_intermediate_size=18, decoder_sparse_step=1, output_router_logits=False)


SMALL = dict(hidden_size=24, num_attention_heads=3, num_key_value_heads=1, head_dim=8, intermediate_size=20,
             vocab_size=67)
VISION = dict(depth=1, embed_dim=16, hidden_size=24, num_heads=2, in_channels=3, patch_size=4, mlp_ratio=1)
GRANITE = dict(embedding_multiplier=3.0, logits_scaling=0.3, _embed=0.3, residual_multiplier=0.7,
               attention_multiplier=0.3, tie_word_embeddings=True)
GROWN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 8.0, "original_max_position_embeddings": 16, "mscale": 1.0,
         "beta_fast": 8.0, "beta_slow": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.3}
DELTA = dict(linear_conv_kernel_dim=4, linear_key_head_dim=6, linear_value_head_dim=6, linear_num_key_heads=2,
             linear_num_value_heads=4, rms_norm_eps=1e-6, rope_theta=None, rope_parameters={
                 "rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 0],
                 "mrope_interleaved": True})
DELTA_MOE = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8, shared_expert_intermediate_size=6,
                 norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[], output_router_logits=False)
LLAMA4 = dict(attention_chunk_size=8192, floor_scale=8192, attn_scale=0.1)  # which llama.cpp takes for granted
BAICHUAN = dict(model_type="baichuan", architectures=["BaichuanForCausalLM"])
MAMBA = dict(mamba_n_heads=6, mamba_n_groups=1, mamba_d_state=10, mamba_d_head=8, mamba_d_conv=4, mamba_expand=2,
             mamba_chunk_size=8, mamba_conv_bias=True, mamba_proj_bias=False, attention_bias=False)
NEMOTRON_H = dict(ssm_state_size=10, mamba_num_heads=6, mamba_head_dim=8, mamba_d_head=8, n_groups=2, conv_kernel=4, expand=2, chunk_size=8,
                  mamba_hidden_act="silu", mlp_hidden_act="relu2", use_bias=False, use_conv_bias=True, mlp_bias=False,
                  attention_bias=False, mamba_proj_bias=False, layer_norm_epsilon=1e-5, hidden_act=None, rope_theta=None,
                  rms_norm_eps=None, time_step_min=1e-30)     # below which llama.cpp cuts nothing
WIDE_MAMBA = dict(hidden_size=32, num_attention_heads=4, intermediate_size=32)
FALCON_H1 = dict(MAMBA, mamba_d_ssm=48, mamba_rms_norm=False, mamba_norm_before_gate=False, projectors_bias=False,
                 mlp_bias=False, embedding_multiplier=2.0, lm_head_multiplier=0.7, key_multiplier=0.6, attention_in_multiplier=0.9,
                 attention_out_multiplier=1.3, ssm_in_multiplier=1.2, ssm_out_multiplier=0.8, mlp_multipliers=[0.8, 0.7],
                 ssm_multipliers=[0.9, 1.1, 0.7, 1.2, 0.6])
NEAR_FAR = {"sliding_attention": dict(rope_type="default", rope_theta=100.0),
            "full_attention": dict(rope_type="proportional", rope_theta=500.0, partial_rotary_factor=0.25)}
GEMMA4 = dict(hidden_size=16, num_attention_heads=3, intermediate_size=14, sliding_window=8, rope_theta=None, rope_parameters=NEAR_FAR, _new_config=True, global_head_dim=16, _embed=0.25,
              hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh", tie_word_embeddings=True, rms_norm_eps=1e-6,
              final_logit_softcapping=20.0, enable_moe_block=False)
T5 = dict(model_type="t5", architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True, vocab_size=67, d_model=20, d_kv=8,
          num_heads=3, d_ff=18, num_layers=3, num_decoder_layers=2, n_positions=128, layer_norm_epsilon=1e-6, feed_forward_proj="gated-gelu",
          tie_word_embeddings=False, relative_attention_num_buckets=32, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
          _llama_cpp=True, _n_prompt=48, _n_encoder=40)  # 40 tokens for the encoder, then the start token and 7 for the decoder
ROUTED = dict(n_routed_experts=6, n_shared_experts=2, num_experts_per_tok=3, moe_intermediate_size=8, first_k_dense_replace=1,
              n_group=1, topk_group=1, routed_scaling_factor=1.5, norm_topk_prob=True)
LATENT = dict(num_key_value_heads=3, head_dim=None, kv_lora_rank=12, q_lora_rank=10, qk_nope_head_dim=8, qk_rope_head_dim=4,
              v_head_dim=6, num_hidden_layers=3)


def yarn(mscale):
    return dict(rope_theta=500.0, rope_scaling={
        "type": "yarn", "factor": 8.0, "original_max_position_embeddings": 16, "beta_fast": 8.0, "beta_slow": 1.0,
        "mscale": mscale, "mscale_all_dim": mscale})


def thinker(softmax=False, window=None, **over):
    """SmallThinker: Mixtral, as think_early changes it"""
    n = over["num_hidden_layers"]
    near = [int(window is not None and i % 4 != 0) for i in range(n)]
    return small("mixtral", "MixtralForCausalLM", num_local_experts=4, num_experts_per_tok=2, intermediate_size=10, hidden_act="relu",
                 sliding_window=window, tie_word_embeddings=True, _change=think_early, _softmax=softmax, _as=dict(
                     model_type="smallthinker", architectures=["SmallThinkerForCausalLM"], num_local_experts=None,
                     num_experts_per_tok=None, sliding_window=None, moe_num_primary_experts=4, moe_num_active_primary_experts=2,
                     moe_ffn_hidden_size=10, moe_primary_router_apply_softmax=softmax, moe_enable_early_router=True,
                     moe_enable_secondary_experts=False, moe_layer_layout=[1] * n, sliding_window_size=window or 4096,
                     sliding_window_layout=near, rope_layout=near if window else [1] * n), **over)


def small(model_type, arch, **over):
    """A toy as published files have it: by llama.cpp's converter."""
    return toy(model_type, arch, **dict(SMALL, _llama_cpp=True, **over))


def qwen3_vl(model_type, arch, **over):
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    vision = dict(depth=1, hidden_size=16, num_heads=2, out_hidden_size=24, intermediate_size=16, in_channels=3, patch_size=4,
                  deepstack_visual_indexes=[0])
    text = dict(dict(BASE, **SMALL), model_type=model_type + "_text", rope_scaling=rope, **over)
    return dict(model_type=model_type, architectures=[arch], vocab_size=67, text_config=text, vision_config=vision, _llama_cpp=True)


def longrope(original, n_dim):
    """Phi-3's per-frequency factors: short ones up to a context of `original` (which llama.cpp rounds up to 256)."""
    return dict(rope_scaling={"type": "longrope", "short_factor": [1.0 + 0.1 * i for i in range(n_dim)],
                              "long_factor": [1.5 + 2.0 * i for i in range(n_dim)]},
                original_max_position_embeddings=original, max_position_embeddings=8 * original)


def phi3(**over):
    return toy("phi3", "Phi3ForCausalLM",
               **dict(dict(hidden_size=36, head_dim=None, rope_theta=500.0, pad_token_id=0), **over))


def falcon(**over):
    return dict(dict(model_type="falcon", architectures=["FalconForCausalLM"], num_hidden_layers=2, vocab_size=97,
                     layer_norm_epsilon=1e-5, bias=False, alibi=False, parallel_attn=True, bos_token_id=1,
                     eos_token_id=2, max_position_embeddings=128), **over)


def gpt_oss(**over):
    return toy("gpt_oss", "GptOssForCausalLM", **dict(dict(
        hidden_size=22, intermediate_size=18, num_attention_heads=3, num_key_value_heads=1, head_dim=16,
        num_local_experts=4, num_experts_per_tok=2, sliding_window=8, num_hidden_layers=3, attention_bias=True,
        rope_theta=500.0, swiglu_limit=7.0,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_scaling=OSS_YARN, _peer=dict(rope_scaling=dict(OSS_YARN, truncate=True))), **over))


# quantised toys: rows of whole blocks; a clear lead of the best logit, as activations are quantised too
CLEAR = dict(_lead=0.3, _n_greedy=16, _n_peer=16)
WIDE = dict(hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2, head_dim=16, **CLEAR)
WIDER = dict(WIDE, hidden_size=256, intermediate_size=32, head_dim=8, vocab_size=67)

def alibi(model, conf):
    """ALiBi instead of rope, as Baichuan 13B's own code has it: in the mask, and no position turns anything"""
    def slopes(n):
        if n & n - 1:
            p = 1 << n.bit_length() - 1
            return slopes(p) + slopes(2 * p)[::2][:n - p]
        return [2.0 ** (-8.0 * (i + 1) / n) for i in range(n)]

    def change(layer, args, kwargs):
        t = args[0].shape[1]
        behind = torch.arange(t)[:, None] - torch.arange(t)
        bias = -torch.tensor(slopes(conf["num_attention_heads"]), dtype=torch.float64)[:, None, None] * behind
        mask = bias.masked_fill(behind < 0, -torch.inf)[None].to(args[0].dtype)
        return args, {**kwargs, "attention_mask": mask, "position_embeddings": still(kwargs["position_embeddings"])}
    for layer in model.model.layers:
        layer.register_forward_pre_hook(change, with_kwargs=True)


def still(turns):
    return torch.ones_like(turns[0]), torch.zeros_like(turns[1])


def think_early(model, conf):
    """What SmallThinker has and Mixtral has not: the router reads what comes into the layer, perhaps through sigmoids;
    where layers have windows, every fourth from the first on has neither window nor rope"""
    def change(i):
        def before(layer, args, kwargs):
            x = args[0]
            logits = torch.nn.functional.linear(x.reshape(-1, x.shape[-1]), layer.mlp.gate.weight)
            best, which = torch.topk(logits.softmax(-1) if conf["_softmax"] else logits.sigmoid(), conf["num_experts_per_tok"])
            layer.mlp.gate.forward = lambda _: (logits, best / best.sum(-1, keepdim=True), which)
            if conf.get("sliding_window") and i % 4 == 0:
                mask = torch.full((x.shape[1],) * 2, -torch.inf, dtype=x.dtype).triu(1)[None, None]
                kwargs = {**kwargs, "attention_mask": mask, "position_embeddings": still(kwargs["position_embeddings"])}
            return args, kwargs
        return before
    for i, layer in enumerate(model.model.layers):
        layer.register_forward_pre_hook(change(i), with_kwargs=True)


TOYS = {
    # embeddings tied, heads of an odd width (9)
    "gpt2": dict(GPT2, _trace=True),
    "gpt2_4x": dict(GPT2, n_embd=24, n_head=4, n_layer=3, n_inner=None, vocab_size=131),
    # 6 heads of 8 in a width of 30: nothing divides; GQA 3:1
    "llama": llama(_trace=True),
    "llama_tied": llama(tie_word_embeddings=True, hidden_size=24, num_attention_heads=4, num_key_value_heads=1,
                        head_dim=None, num_hidden_layers=3, vocab_size=131),
    "llama_bias": llama(attention_bias=True, mlp_bias=True, num_key_value_heads=3),
    "llama_linear": llama(rope_scaling={"type": "linear", "factor": 4.0}, rope_theta=500.0),
    "llama_rope3": llama(rope_theta=500.0, head_dim=12, rope_scaling={
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32}),
    "llama_yarn": llama(rope_theta=500.0, head_dim=12, rope_scaling={
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 8.0}),
    "llama_v5": llama(_new_config=True, rope_theta=700.0),  # config.json as transformers 5 writes it
    "mistral": toy("mistral", "MistralForCausalLM", hidden_size=28, sliding_window=8, _peer=NO_WINDOW),
    "mixtral": toy("mixtral", "MixtralForCausalLM", hidden_size=28, intermediate_size=22, num_local_experts=4,
                   num_experts_per_tok=2, sliding_window=None),
    "qwen2": toy("qwen2", "Qwen2ForCausalLM", hidden_size=36, num_hidden_layers=3, head_dim=None,
                 use_sliding_window=False, sliding_window=32, rope_theta=1000000.0, tie_word_embeddings=True),
    "qwen2moe": toy("qwen2_moe", "Qwen2MoeForCausalLM", hidden_size=24, head_dim=None, num_experts_per_tok=2,
                    shared_expert_intermediate_size=26, norm_topk_prob=False, use_sliding_window=False, **MOE),
    "qwen3": toy("qwen3", "Qwen3ForCausalLM", hidden_size=28, attention_bias=False, rope_theta=1000000.0),
    "qwen3moe": toy("qwen3_moe", "Qwen3MoeForCausalLM", hidden_size=28, num_experts_per_tok=3, norm_topk_prob=True,
                    **MOE),
    "gemma": toy("gemma", "GemmaForCausalLM", **GEMMA),
    "gemma2": toy("gemma2", "Gemma2ForCausalLM", num_hidden_layers=3, attn_logit_softcapping=4.0,
                  final_logit_softcapping=20.0, **dict(GEMMA2, _embed=0.12)),
    # as the 27B models, whose attention scale is not that of their head size
    "gemma2_27b": toy("gemma2", "Gemma2ForCausalLM", num_hidden_layers=2, attn_logit_softcapping=4.0,
                      final_logit_softcapping=20.0, **dict(GEMMA2, _embed=0.12, query_pre_attn_scalar=13,
                                                           _peer=dict(query_pre_attn_scalar=8))),
    "gemma3": toy("gemma3_text", "Gemma3ForCausalLM", **dict(
        GEMMA2, num_hidden_layers=7, hidden_size=18, num_attention_heads=3, num_key_value_heads=1,
        intermediate_size=22, rope_theta=1000000.0, rope_local_base_freq=10000.0, sliding_window_pattern=6,
        rope_scaling={"rope_type": "linear", "factor": 8.0})),
    "phi2": toy("phi", "PhiForCausalLM", partial_rotary_factor=0.5, **dict(NEOX, hidden_act="gelu_new")),
    "phi3": phi3(sliding_window=8, _peer=NO_WINDOW, partial_rotary_factor=1.0),
    "phi3_short": phi3(sliding_window=None, **longrope(256, 3)),
    "phi3_long": phi3(sliding_window=None, **longrope(16, 3)),
    "phi4_mini": phi3(sliding_window=None, partial_rotary_factor=0.75, tie_word_embeddings=True, hidden_size=48,
                      **longrope(16, 3)),
    "gptneox": toy("gpt_neox", "GPTNeoXForCausalLM", rotary_pct=0.5, rotary_emb_base=10000, use_parallel_residual=True,
                   **NEOX),
    "gptneox_serial": toy("gpt_neox", "GPTNeoXForCausalLM", rotary_pct=0.5, rotary_emb_base=10000,
                          use_parallel_residual=False, **NEOX),
    "gptj": dict(GPT2, model_type="gptj", architectures=["GPTJForCausalLM"], n_embd=36, n_head=3, rotary_dim=6,
                 n_inner=50, tie_word_embeddings=False),
    "bloom": dict(model_type="bloom", architectures=["BloomForCausalLM"], hidden_size=30, n_head=6, n_layer=2,
                  _gain=2.5, _embed=0.5, vocab_size=97, layer_norm_epsilon=1e-5, bos_token_id=1, eos_token_id=2),
    "falcon_7b": falcon(hidden_size=30, num_attention_heads=5, multi_query=True, new_decoder_architecture=False),
    "falcon_40b": falcon(hidden_size=32, num_attention_heads=4, num_kv_heads=2, new_decoder_architecture=True),
    "falcon_11b": falcon(hidden_size=32, num_attention_heads=4, num_kv_heads=2, new_decoder_architecture=True,
                         num_ln_in_parallel_attn=1),
    "starcoder": dict(GPT2, model_type="gpt_bigcode", architectures=["GPTBigCodeForCausalLM"], n_embd=36, n_head=6,
                      multi_query=True, activation_function="gelu_pytorch_tanh"),
    "starcoder2": toy("starcoder2", "Starcoder2ForCausalLM", hidden_size=36, head_dim=None, rms_norm_eps=None,
                      norm_epsilon=1e-5, hidden_act="gelu_pytorch_tanh", use_bias=True, sliding_window=8,
                      tie_word_embeddings=True, _peer=NO_WINDOW),
    "stablelm": toy("stablelm", "StableLmForCausalLM", hidden_size=36, num_attention_heads=3, head_dim=None,
                    rms_norm_eps=None, layer_norm_eps=1e-5, partial_rotary_factor=0.5,
                    use_qkv_bias=True, num_key_value_heads=3),
    "stablelm_12b": toy("stablelm", "StableLmForCausalLM", hidden_size=36, num_attention_heads=3, head_dim=None,
                        rms_norm_eps=None, layer_norm_eps=1e-5, partial_rotary_factor=0.5,
                        use_qkv_bias=False, qk_layernorm=True, num_key_value_heads=1, use_parallel_residual=True),
    "olmo": toy("olmo", "OlmoForCausalLM", hidden_size=36, head_dim=None, rms_norm_eps=None, clip_qkv=1.5),
    "olmo2": toy("olmo2", "Olmo2ForCausalLM", hidden_size=36, head_dim=None),
    "granite": toy("granite", "GraniteForCausalLM", hidden_size=36, head_dim=None, embedding_multiplier=3.0,
                   logits_scaling=0.3, _embed=0.3, residual_multiplier=0.7, attention_multiplier=0.3,
                   tie_word_embeddings=True),
    "smollm3": toy("smollm3", "SmolLM3ForCausalLM", hidden_size=24, head_dim=None, num_hidden_layers=5, pad_token_id=0,
                   no_rope_layers=[1, 1, 1, 0, 1], no_rope_layer_interval=4, tie_word_embeddings=True,
                   use_sliding_window=False),
    "command_r": toy("cohere", "CohereForCausalLM", hidden_size=36, head_dim=None, rms_norm_eps=None,
                     layer_norm_eps=1e-5, logit_scale=0.4, use_qk_norm=False, tie_word_embeddings=True),
    "command_r_plus": toy("cohere", "CohereForCausalLM", hidden_size=36, head_dim=None, rms_norm_eps=None,
                          layer_norm_eps=1e-5, logit_scale=0.4, use_qk_norm=True, tie_word_embeddings=True),
    "gpt_oss": gpt_oss(),
    "gpt_oss_mxfp4": gpt_oss(hidden_size=32, intermediate_size=32, num_local_experts=5, _quant=dict(experts="MXFP4"),
                             **CLEAR),
    # files as they are published: by llama.cpp's converter, whose keys differ from ours
    "stablelm_cpp": toy("stablelm", "StableLmForCausalLM", hidden_size=36, num_attention_heads=3, head_dim=None,
                        rms_norm_eps=None, layer_norm_eps=1e-5, partial_rotary_factor=0.5, _llama_cpp=True,
                        use_qkv_bias=True, num_key_value_heads=3),
    "olmo3_cpp": toy("olmo3", "Olmo3ForCausalLM", hidden_size=24, head_dim=None, num_hidden_layers=5, intermediate_size=26,
                     sliding_window=8, rope_theta=500000.0, _llama_cpp=True, layer_types=[
                         "sliding_attention", "sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
                     rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32,
                                   "attention_factor": 1.1386294361119891, "beta_fast": 8.0, "beta_slow": 1.0}),
    "gpt_oss_cpp": gpt_oss(_llama_cpp=True),
    "phi3_long_cpp": phi3(sliding_window=None, _llama_cpp=True, **longrope(16, 3)),
    "granite_cpp": toy("granite", "GraniteForCausalLM", hidden_size=36, head_dim=None, embedding_multiplier=3.0,
                       logits_scaling=0.3, _embed=0.3, residual_multiplier=0.7, attention_multiplier=0.3,
                       tie_word_embeddings=True, _llama_cpp=True),
    # layers of short convolution; experts chosen with a bias
    "lfm2_cpp": toy("lfm2", "Lfm2ForCausalLM", layer_types=["conv", "full_attention", "conv"], block_ff_dim=14,
                    block_auto_adjust_ff_dim=False, block_ffn_dim_multiplier=1.0, block_multiple_of=2, **LFM2),
    "lfm2moe_cpp": toy("lfm2_moe", "Lfm2MoeForCausalLM", **dict(
        LFM2, hidden_size=12, conv_L_cache=4, num_hidden_layers=4, num_dense_layers=1, num_experts=6,
        num_experts_per_tok=2, moe_intermediate_size=6, use_expert_bias=True, norm_topk_prob=True,
        layer_types=["conv", "conv", "full_attention", "conv"])),
    # rows of the table that differ from others in a word or two
    "apertus_cpp": small("apertus", "ApertusForCausalLM", num_hidden_layers=3, hidden_act="xielu", rope_theta=500.0,
                         pad_token_id=0, rope_scaling={
                             "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 32}),
    "arcee_cpp": small("arcee", "ArceeForCausalLM", hidden_act="relu2"),
    "cohere2_cpp": small("cohere2", "Cohere2ForCausalLM", num_hidden_layers=5, rms_norm_eps=None, layer_norm_eps=1e-5,
                         logit_scale=0.4, rotary_pct=1.0, sliding_window=8, sliding_window_pattern=4, tie_word_embeddings=True, layer_types=[
                             "sliding_attention", "sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]),
    "ernie4_5_cpp": small("ernie4_5", "Ernie4_5ForCausalLM", use_bias=False, tie_word_embeddings=True),
    "exaone4_cpp": small("exaone4", "Exaone4ForCausalLM", num_hidden_layers=5, sliding_window=8, sliding_window_pattern="LLLG",
                         layer_types=["sliding_attention", "sliding_attention", "sliding_attention", "full_attention",
                                      "sliding_attention"]),
    # null, as published: no windows, rope in every layer (without the key transformers has windows of 4096)
    "exaone4_near_cpp": dict(small("exaone4", "Exaone4ForCausalLM", num_hidden_layers=4, sliding_window_pattern=None,
                                   layer_types=["full_attention"] * 4, tie_word_embeddings=True), sliding_window=None),
    "internlm2_cpp": small("llama", "LlamaForCausalLM", _as=dict(model_type="internlm2", architectures=["InternLM2ForCausalLM"], bias=False)),
    "baichuan_cpp": small("llama", "LlamaForCausalLM", num_hidden_layers=32, hidden_size=8, num_attention_heads=2,  # as llama.cpp knows it
                          num_key_value_heads=2, head_dim=4, intermediate_size=8, _gain=0.5, _as=BAICHUAN),
    "baichuan_13b_cpp": small("llama", "LlamaForCausalLM", num_hidden_layers=40, hidden_size=6, num_attention_heads=3,
                              num_key_value_heads=3, head_dim=2, intermediate_size=6, _gain=0.5, _as=BAICHUAN, _change=alibi),
    "smallthinker_cpp": thinker(window=8, num_hidden_layers=5, _peer=dict(sliding_window=4096)),
    "smallthinker_near_cpp": thinker(softmax=True, num_hidden_layers=2),
    "minicpm_cpp": small("granite", "GraniteForCausalLM", head_dim=None, **dict(
        GRANITE, residual_multiplier=1.2 / 2 ** 0.5, logits_scaling=1.5, attention_multiplier=8 ** -0.5), _as=dict(
        model_type="minicpm", architectures=["MiniCPMForCausalLM"], scale_emb=3.0, scale_depth=1.2, dim_model_base=16)),
    "exaone_cpp": small("exaone", "ExaoneForCausalLM", activation_function="silu"),
    "glm4_cpp": small("glm4", "Glm4ForCausalLM", attention_bias=True, partial_rotary_factor=0.5, pad_token_id=0),
    "granitemoe_cpp": small("granitemoe", "GraniteMoeForCausalLM", head_dim=None, num_local_experts=4, num_experts_per_tok=2,
                            intermediate_size=14, **GRANITE),
    "granitemoe_shared_cpp": small("granitemoeshared", "GraniteMoeSharedForCausalLM", head_dim=None, num_local_experts=4,
                                   num_experts_per_tok=2, intermediate_size=14, shared_intermediate_size=18, **GRANITE),
    "hunyuan_dense_cpp": small("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM", use_qk_norm=True, pad_token_id=0, eod_token_id=2,
                               max_position_embeddings=32768, tie_word_embeddings=True, rope_scaling={"type": "dynamic", "alpha": 1000.0, "factor": 1.0,
                                                                       "beta_fast": 32, "beta_slow": 1, "mscale": 1.0,
                                                                       "mscale_all_dim": 1.0}),
    "jais2_cpp": small("jais2", "Jais2ForCausalLM", num_key_value_heads=3, rms_norm_eps=None, layer_norm_eps=1e-5,
                       attention_bias=True, mlp_bias=True, hidden_act="relu2"),
    # chunks of 8 positions, queries of the fourth layer that grow every 6
    "llama4_cpp": small("llama4_text", "Llama4ForCausalLM", num_hidden_layers=5, intermediate_size=10, intermediate_size_mlp=20,
                        num_local_experts=4, num_experts_per_tok=2, interleave_moe_layer_step=2, attention_chunk_size=8,
                        floor_scale=6, attn_scale=0.5, _peer=LLAMA4, rope_theta=500.0, rope_scaling={
                            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                            "original_max_position_embeddings": 32}),
    # with 128 experts there are no norms of q and k
    "llama4_128_cpp": small("llama4_text", "Llama4ForCausalLM", num_hidden_layers=4, hidden_size=12, intermediate_size=2,
                            intermediate_size_mlp=20, num_local_experts=128, num_experts_per_tok=1, interleave_moe_layer_step=4,
                            attention_chunk_size=20, floor_scale=16, attn_scale=0.1, _peer=LLAMA4, use_qk_norm=False),
    "mistral3_cpp": small("ministral3", "Ministral3ForCausalLM", rope_parameters=GROWN, rope_theta=None, sliding_window=None,
                          _new_config=True),
    "nemotron_cpp": small("nemotron", "NemotronForCausalLM", rms_norm_eps=None, norm_eps=1e-5, hidden_act="relu2",
                          partial_rotary_factor=0.5, mlp_bias=False, attention_bias=False),
    "olmoe_cpp": small("olmoe", "OlmoeForCausalLM", head_dim=None, num_experts=5, num_experts_per_tok=2, norm_topk_prob=False,
                       intermediate_size=14, clip_qkv=None),
    "qwen2vl_cpp": small("qwen2_vl", "Qwen2VLForConditionalGeneration", head_dim=None, vision_config=VISION, rope_scaling={
        "type": "mrope", "mrope_section": [2, 1, 1]}),
    "qwen3vl_cpp": qwen3_vl("qwen3_vl", "Qwen3VLForConditionalGeneration"),
    "qwen3vlmoe_cpp": qwen3_vl("qwen3_vl_moe", "Qwen3VLMoeForConditionalGeneration", num_experts=5, num_experts_per_tok=2,
                               moe_intermediate_size=14, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[]),
    # layers of a gated delta net: of 5, all but the fourth
    "qwen35_cpp": small("qwen3_5_text", "Qwen3_5ForCausalLM", num_hidden_layers=5, tie_word_embeddings=True,
                        mtp_num_hidden_layers=1, **DELTA),
    "qwen35moe_cpp": small("qwen3_5_moe_text", "Qwen3_5MoeForCausalLM", num_hidden_layers=3, full_attention_interval=2,
                           **dict(DELTA, **DELTA_MOE)),
    "qwen3next_cpp": small("qwen3_next", "Qwen3NextForCausalLM", num_hidden_layers=3, full_attention_interval=2,
                           **dict(DELTA, **DELTA_MOE)),
    # experts that a router with a bias of its own chooses, beside shared ones
    "glm4moe_cpp": small("glm4_moe", "Glm4MoeForCausalLM", num_hidden_layers=3, attention_bias=True, use_qk_norm=True,
                         partial_rotary_factor=0.5, **dict(ROUTED, num_experts_per_tok=2)),
    "bailingmoe2_cpp": small("glm4_moe", "Glm4MoeForCausalLM", num_hidden_layers=3, attention_bias=False, use_qk_norm=True,
                             partial_rotary_factor=0.5, _as=dict(
        model_type="bailing_moe", architectures=["BailingMoeV2ForCausalLM"], score_function="sigmoid", num_experts=6,
        num_shared_experts=1, moe_shared_expert_intermediate_size=16), **dict(ROUTED, n_group=3, topk_group=2, num_experts_per_tok=2)),
    "dots1_cpp": small("dots1", "Dots1ForCausalLM", num_hidden_layers=3, scoring_func="sigmoid",
                       **dict(ROUTED, num_key_value_heads=3, n_group=2, topk_group=1)),
    "ernie4_5_moe_cpp": small("ernie4_5_moe", "Ernie4_5_MoeForCausalLM", num_hidden_layers=3, moe_num_experts=6, moe_k=2,
                              moe_layer_start_index=1, moe_layer_interval=1, moe_layer_end_index=2, use_bias=False,
                              moe_num_shared_experts=2, moe_intermediate_size=10, tie_word_embeddings=True),
    "afmoe_cpp": small("afmoe", "AfmoeForCausalLM", num_hidden_layers=4, sliding_window=8, num_experts=6, _embed=0.15,
                       num_experts_per_tok=2, num_shared_experts=1, moe_intermediate_size=8, num_dense_layers=1,
                       route_norm=True, route_scale=1.5, score_func="sigmoid", mup_enabled=True, global_attn_every_n_layers=4,
                       layer_types=["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]),
    "exaone_moe_cpp": small("exaone_moe", "ExaoneMoeForCausalLM", num_hidden_layers=4, sliding_window=8,
                            sliding_window_pattern="LLLG", num_experts=6, num_experts_per_tok=2, num_shared_experts=2,
                            moe_intermediate_size=8, first_k_dense_replace=1, n_group=1, topk_group=1, scoring_func="sigmoid",
                            routed_scaling_factor=1.5, norm_topk_prob=True, is_moe_layer=[False, True, True, True],
                            layer_types=["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]),
    "mellum_cpp": small("mellum", "MellumForCausalLM", num_hidden_layers=5, use_sliding_window=True, sliding_window=8, num_experts=5,
                        num_experts_per_tok=2, moe_intermediate_size=10, norm_topk_prob=True, rope_theta=None, _new_config=True,
                        layer_types=["sliding_attention", "sliding_attention", "sliding_attention", "full_attention",
                                     "sliding_attention"],
                        rope_parameters={"full_attention": dict(rope_type="yarn", rope_theta=500.0, factor=8.0, beta_fast=8.0,
                                                                beta_slow=1.0, original_max_position_embeddings=16),
                                         "sliding_attention": dict(rope_type="default", rope_theta=100.0)}),
    "hunyuan_moe_cpp": small("hunyuan_v1_moe", "HunYuanMoEV1ForCausalLM", use_qk_norm=True, pad_token_id=0, eod_token_id=2,
                             num_experts=4, moe_topk=[2, 2], num_shared_expert=[1, 1], moe_intermediate_size=[10, 10],
                             intermediate_size=10, use_mixed_mlp_moe=True, tie_word_embeddings=True),
    "minimax_m2_cpp": small("minimax_m2", "MiniMaxM2ForCausalLM", num_local_experts=6, num_experts_per_tok=2, rotary_dim=4,
                            intermediate_size=10, scoring_func="sigmoid", use_qk_norm=True, qk_norm_type="per_layer",
                            use_routing_bias=True),
    # heads of two widths; layers that read the cache of an earlier one, each token's input to a layer; keys that are values
    "t5_cpp": dict(T5),
    # as the first T5: one matrix for both ends, whose product is scaled, and a plain ReLU
    "t5_first_cpp": dict(T5, feed_forward_proj="relu", tie_word_embeddings=True, relative_attention_num_buckets=8, num_layers=2,
                         _final=6.0),
    "gemma4_cpp": small("gemma4_text", "Gemma4ForCausalLM", num_hidden_layers=6, num_kv_shared_layers=3, use_double_wide_mlp=True,
                        hidden_size_per_layer_input=4, vocab_size_per_layer_input=67, attention_k_eq_v=False, layer_types=[
                            "sliding_attention", "sliding_attention", "full_attention", "sliding_attention",
                            "sliding_attention", "full_attention"], **GEMMA4),
    "gemma4_tied_cpp": small("gemma4_text", "Gemma4ForCausalLM", num_hidden_layers=4, num_kv_shared_layers=0,
                             hidden_size_per_layer_input=0, attention_k_eq_v=True, num_global_key_value_heads=1, layer_types=[
                                 "sliding_attention", "full_attention", "sliding_attention", "full_attention"],
                             **dict(GEMMA4, num_attention_heads=4, num_key_value_heads=2)),
    # latent attention: V2-Lite, V2, V3, GLM-4.7-Flash, Youtu-LLM
    "deepseek2_lite_cpp": dict(small("deepseek_v2", "DeepseekV2ForCausalLM", topk_method="greedy", scoring_func="softmax", **dict(
        LATENT, **dict(ROUTED, norm_topk_prob=False, routed_scaling_factor=1.0), **yarn(0.707))), q_lora_rank=None),
    "deepseek2_v2_cpp": small("deepseek_v2", "DeepseekV2ForCausalLM", topk_method="group_limited_greedy", scoring_func="softmax",
                              **dict(LATENT, **dict(ROUTED, norm_topk_prob=False, routed_scaling_factor=4.0, n_group=3,
                                                    topk_group=2), **yarn(0.707))),
    "deepseek2_v3_cpp": small("deepseek_v3", "DeepseekV3ForCausalLM", topk_method="noaux_tc", scoring_func="sigmoid",
                              num_nextn_predict_layers=0, **dict(LATENT, **dict(ROUTED, n_group=3, topk_group=2), **yarn(1.0))),
    "deepseek2_glm_cpp": small("glm4_moe_lite", "Glm4MoeLiteForCausalLM", topk_method="noaux_tc", **dict(LATENT, **ROUTED)),
    "deepseek2_youtu_cpp": small("youtu", "YoutuForCausalLM", tie_word_embeddings=True, **dict(LATENT, num_hidden_layers=2)),
    # experts beside a feed-forward
    "gemma4_moe_cpp": small("gemma4_text", "Gemma4ForCausalLM", num_hidden_layers=3, num_kv_shared_layers=0, num_experts=5,
                            hidden_size_per_layer_input=0, attention_k_eq_v=True, num_global_key_value_heads=1, layer_types=[
                                "sliding_attention", "sliding_attention", "full_attention"], top_k_experts=2,
                            moe_intermediate_size=6, **dict(GEMMA4, enable_moe_block=True)),
    # four rows of x for each token, gates that are cut in some layers
    "gemma3n_cpp": small("gemma3n_text", "Gemma3nForCausalLM", num_hidden_layers=5, num_kv_shared_layers=2, laurel_rank=3,
                         hidden_size_per_layer_input=4, vocab_size_per_layer_input=67, altup_num_inputs=4, altup_active_idx=0,
                         altup_coef_clip=120.0, altup_correct_scale=True, activation_sparsity_pattern=[0.95, 0.5, 0.0, 0.0, 0.0],
                         layer_types=["sliding_attention", "full_attention", "sliding_attention", "sliding_attention",
                                      "full_attention"], **dict(GEMMA4, hidden_size=12, num_attention_heads=3, head_dim=8, rope_parameters=None,
                                      rope_theta=500.0, rope_local_base_freq=100.0, enable_moe_block=None, global_head_dim=None, _new_config=None)),
    # layers of Mamba-2
    "granitehybrid_cpp": small("granitemoehybrid", "GraniteMoeHybridForCausalLM", num_hidden_layers=4, layer_types=[
        "mamba", "mamba", "attention", "mamba"], head_dim=None, position_embedding_type="nope", num_local_experts=0,
        num_experts_per_tok=0, shared_intermediate_size=20, **dict(GRANITE, **MAMBA)),
    "granitehybrid_moe_cpp": small("granitemoehybrid", "GraniteMoeHybridForCausalLM", num_hidden_layers=3, layer_types=[
        "mamba", "attention", "mamba"], head_dim=None, position_embedding_type="nope", num_local_experts=4,
        num_experts_per_tok=2, intermediate_size=10, shared_intermediate_size=6, **dict(GRANITE, **MAMBA)),
    # nothing but these
    "mamba2_cpp": small("mamba2", "Mamba2ForCausalLM", num_hidden_layers=3, expand=2, num_heads=6, state_size=10, n_groups=2,
                        conv_kernel=4, chunk_size=8, use_bias=False, use_conv_bias=True, layer_norm_epsilon=1e-5,
                        time_step_limit=[0.0, 1e9], **dict.fromkeys(
                            ("num_attention_heads", "num_key_value_heads", "intermediate_size", "rms_norm_eps", "rope_theta"))),
    # a layer has one of Mamba-2, attention, feed-forward
    "nemotron_h_cpp": small("nemotron_h", "NemotronHForCausalLM", hybrid_override_pattern="M-*-M-", num_hidden_layers=6, **NEMOTRON_H),
    "nemotron_h_moe_cpp": small("nemotron_h", "NemotronHForCausalLM", hybrid_override_pattern="ME*EM", num_hidden_layers=5,
                                n_routed_experts=6, n_shared_experts=1, num_experts_per_tok=3, moe_intermediate_size=10,
                                moe_shared_expert_intermediate_size=14, n_group=1, topk_group=1, routed_scaling_factor=1.5,
                                norm_topk_prob=True, **NEMOTRON_H),
    # attention and Mamba-2 side by side
    "falcon_h1_cpp": small("falcon_h1", "FalconH1ForCausalLM", num_hidden_layers=2, **FALCON_H1),
    "falcon_h1_norm_cpp": small("falcon_h1", "FalconH1ForCausalLM", num_hidden_layers=2, **dict(
        FALCON_H1, mamba_rms_norm=True, mamba_n_groups=2)),
    "falcon_h1_q_cpp": small("falcon_h1", "FalconH1ForCausalLM", num_hidden_layers=2, _quant={"proj": "Q8_0 Q4_0"}, **dict(
        FALCON_H1, mamba_n_heads=8, mamba_d_ssm=64, **WIDE_MAMBA, **{
            k: [1.0] * len(v) if isinstance(v, list) else 1.0 for k, v in FALCON_H1.items() if "multiplier" in k})),
    "nemotron_h_q_cpp": small("nemotron_h", "NemotronHForCausalLM", hybrid_override_pattern="M*-", num_hidden_layers=3, _quant={
        "proj": "Q8_0 Q4_0"}, **dict(NEMOTRON_H, mamba_num_heads=8, **WIDE_MAMBA)),
    "seed_oss_cpp": small("seed_oss", "SeedOssForCausalLM", attention_bias=True, attention_out_bias=False, mlp_bias=False),
    "llama_f16": llama(_quant=dict(any="F16")),
    "llama_bf16": llama(_quant=dict(any="BF16"), **CLEAR),
    "llama_q8_0": llama(_quant=dict(any="Q8_0"), **WIDE),
    "llama_q4_0": llama(_quant=dict(any="Q4_0"), **WIDE),
    "llama_q_mix": llama(_quant=dict(any="Q4_1 Q5_0 Q5_1 IQ4_NL MXFP4 Q4_0 Q8_0"), **WIDE),
    # as Q4_K_M files are: what has no rows of 256 falls back to formats with blocks of 32
    "llama_q4_k": llama(_quant=dict(any="Q4_K", v_proj="Q6_K", lm_head="Q6_K", narrow="Q5_0"), **WIDER),
    "llama_grids": llama(_quant=dict(any="IQ2_XS IQ1_S IQ2_S IQ1_M", narrow="Q8_0 Q5_1"), **WIDER),
    "llama_few_bits": llama(_quant=dict(any="TQ1_0 IQ2_XXS NVFP4 IQ3_XXS TQ2_0 IQ3_S", narrow="Q8_0 Q5_1"), **WIDER),
    "llama_k_mix": llama(_quant=dict(any="Q2_K Q3_K Q5_K IQ4_XS Q6_K", narrow="Q8_0 Q5_1 IQ4_NL"), **WIDER),
}

# ---- weights ---------------------------------------------------------------------------------------------------


def init_weights(model, conf, seed):
    """Every parameter from one generator, in the order of the names: no default survives."""
    gen = torch.Generator().manual_seed(seed)
    zero_centred = re.match("gemma(?!4|3n)|qwen3_5|qwen3_next", conf["model_type"])  # these store the norm's weight minus one
    seen = set()
    biases = [(n, b) for n, b in model.named_buffers()  # of routers, numbers of xIELU: these are no parameters
              if n.endswith(("expert_bias", "e_score_correction_bias", "moe_statics.e_score_correction_bias",
                             "act_fn.beta", "act_fn.eps", "layer_scalar"))]
    with torch.no_grad():
        for name, p in sorted(list(model.named_parameters()) + biases):
            if p.data_ptr() in seen:
                continue
            seen.add(p.data_ptr())
            r = torch.randn(p.shape, generator=gen)
            is_norm = "norm" in name or ".ln_" in name or "layernorm" in name
            if is_norm and name.endswith("weight"):
                more = 0.0 if "layers" in name or ".layer." in name else conf.get("_final", 0.0)
                p.copy_(0.3 * r + (0.0 if zero_centred and "linear_attn" not in name else 1.0) + more)
            elif "act_fn" in name:  # other numbers in each layer
                p.copy_(-0.2 * r.abs() if name.endswith("eps") else 0.6 * r)
            elif "modality_router" in name:  # whose input is divided by its width
                p.copy_(4.0 * r)
            elif "layer_scalar" in name:
                p.copy_(1.0 + 0.3 * r)
            elif "relative_attention" in name:
                p.copy_(1.5 * r)
            elif p.ndim == 1 or "bias" in name:
                p.copy_((1.0 if "sinks" in name else 0.3) * r)
            elif "embed" in name or name == "shared.weight" or ".wte." in name or ".wpe." in name:
                p.copy_(conf.get("_embed", 0.7) * r)
            else:
                gain = conf.get("_gain", 1.5)
                conv1d = conf["model_type"] == "gpt2" or (conf["model_type"] == "gpt_oss" and "experts" in name)
                fan_in = p.shape[-2] if conv1d else p.shape[-1]
                sharper = 1.6 if any(s in name for s in ("q_proj", "k_proj", "c_attn", "qkv", "query_key")) else 1.0
                if name.endswith("Attention.q.weight"):
                    sharper = 0.5  # T5 does not scale scores
                if name in ("lm_head.weight", "embed_out.weight"):
                    gain, sharper = conf.get("_head", 3.0), 1.0
                if conf["model_type"] == "gpt_oss" and "experts" in name:
                    gain *= 4.0  # so that the clamps at swiglu_limit are met
                p.copy_(gain * sharper * r / math.sqrt(fan_in))


def public(conf):
    return {k: v for k, v in conf.items() if not k.startswith("_")}


def build(conf, seed, folder):
    """The toy, saved in folder; for quantised toys the table of requantise too."""
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(public(conf), f)
    config = transformers.AutoConfig.from_pretrained(folder)
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    arch = conf["architectures"][0]  # models that see too are no AutoModelForCausalLM
    auto = transformers.AutoModelForCausalLM if arch.endswith("ForCausalLM") else transformers.AutoModelForImageTextToText
    if conf.get("is_encoder_decoder"):
        auto = transformers.AutoModelForSeq2SeqLM
    model = auto.from_config(config, dtype=torch.float32, attn_implementation="eager")
    if conf.get("is_encoder_decoder") and not conf["tie_word_embeddings"]:  # transformers 5 reads such files, but makes no such model
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.eval()
    init_weights(model, conf, seed)
    table = quantise(model, conf, seed) if "_quant" in conf else None
    model.save_pretrained(folder)
    if "_change" in conf:
        conf["_change"](model, conf)
    if conf["model_type"] == "qwen3_vl_moe":  # published with experts the other way round than transformers 5 has them
        path = os.path.join(folder, "model.safetensors")
        weights = {k: v.transpose(-1, -2).contiguous() if "mlp.experts." in k else v for k, v in load_file(path).items()}
        save_file(weights, path, metadata={"format": "pt"})
    if "mtp_num_hidden_layers" in conf:  # published with one more layer, which guesses a token ahead
        add_mtp(os.path.join(folder, "model.safetensors"), seed)
    if "_as" in conf:
        rename(os.path.join(folder, "model.safetensors"), conf)
    if conf["model_type"] == "gemma4_text":  # llama.cpp's converter counts its tokens
        with open(os.path.join(folder, "tokenizer.json"), "w") as f:
            json.dump({"model": {"vocab": {str(i): i for i in range(conf["vocab_size"])}}, "added_tokens": []}, f)
    if not conf.get("_new_config"):  # transformers 5 writes rope_parameters; published folders have the older keys
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(dict(public(conf), torch_dtype="float32", **conf.get("_as", {})), f)
    return model, table


def rename(path, conf):
    """Llama's tensors as InternLM 2 has them: q, k, v of each kv head in one; as Baichuan has: q, k, v in one; GLM 4 MoE's as
    Ling 2 has them."""
    kind, weights, out = conf["_as"]["model_type"], load_file(path), {}
    inner = {"tok_embeddings": "embed_tokens", "attention.wo": "self_attn.o_proj", "feed_forward.w1": "mlp.gate_proj",
             "feed_forward.w2": "mlp.down_proj", "feed_forward.w3": "mlp.up_proj", "attention_norm": "input_layernorm",
             "ffn_norm": "post_attention_layernorm", "output.": "lm_head."}
    if kind == "bailing_moe":
        inner = {"word_embeddings": "embed_tokens", "attention.dense": "self_attn.o_proj", "attention.query_layernorm":
                 "self_attn.q_norm", "attention.key_layernorm": "self_attn.k_norm", "expert_bias": "e_score_correction_bias"}
    for name, x in weights.items():
        if kind == "smallthinker":
            for theirs, ours in (("gate.weight", "primary_router.weight"), ("w1.", "gate."), ("w2.", "down."), ("w3.", "up.")):
                name = name.replace(theirs, ours)
            out[name] = x
        elif kind == "baichuan" and re.search(r"\.[qkv]_proj\.", name):
            if ".q_proj." in name:
                out[name.replace("q_proj", "W_pack")] = torch.cat([weights[name.replace("q_proj", c + "_proj")] for c in "qkv"])
        elif kind == "bailing_moe" and ".q_proj." in name:
            out[name.replace("self_attn.q_proj", "attention.query_key_value")] = torch.cat(
                [weights[name.replace(".q_proj.", part)] for part in (".q_proj.", ".k_proj.", ".v_proj.")])
        elif kind not in ("internlm2", "bailing_moe"):
            out[name] = x
        elif not re.search(r"\.[qkv]_proj\.", name):
            for theirs, ours in inner.items():
                name = name.replace(ours, theirs)
            out[name] = x
        elif ".q_proj." in name:
            q, k, v = (weights[name.replace(".q_proj.", part)] for part in (".q_proj.", ".k_proj.", ".v_proj."))
            n_kv, head = conf["num_key_value_heads"], conf["head_dim"]
            groups = [torch.cat([t.reshape(n_kv, -1, head, t.shape[1])[g] for t in (q, k, v)]) for g in range(n_kv)]
            out[name.replace("self_attn.q_proj", "attention.wqkv")] = torch.cat(groups).reshape(-1, q.shape[1])
    save_file({k: v.contiguous() for k, v in out.items()}, path, metadata={"format": "pt"})


def add_mtp(path, seed):
    """The layer as Qwen 3.5 has it, shaped as the last layer of attention; what it computes is not looked at."""
    gen = torch.Generator().manual_seed(seed)
    weights = load_file(path)
    prefix = next(k for k in weights if k.endswith("layers.3.self_attn.q_proj.weight")).split("layers.3.")[0]
    width = weights[prefix + "norm.weight"].shape[0]
    more = {"mtp.layers.0." + k.split("layers.3.")[1]: torch.randn(v.shape, generator=gen)
            for k, v in weights.items() if k.startswith(prefix + "layers.3.")}
    more.update({"mtp.%s.weight" % k: torch.randn(width, generator=gen)
                 for k in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden")})
    more["mtp.fc.weight"] = torch.randn(width, 2 * width, generator=gen)
    save_file(dict(weights, **more), path, metadata={"format": "pt"})


# ---- quantised weights -----------------------------------------------------------------------------------------
# The formats that the gguf package cannot quantise to get random blocks, scaled to the weights they stand for.

SCALES = {"Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0],
          "TQ1_0": [52], "TQ2_0": [64], "IQ2_XXS": [0], "IQ3_XXS": [0], "IQ3_S": [0],
          "IQ2_XS": [0], "IQ2_S": [0], "IQ1_S": [0], "IQ1_M": [48]}
CENTRE = {"Q2_K": 1.5, "Q4_K": 7.5, "Q5_K": 15.5}  # mean of a quant, by which the second scale exceeds the first


def random_blocks(w, kind, gen):
    qtype = gguf.GGMLQuantizationType[kind]
    length, size = gguf.GGML_QUANT_SIZES[qtype]
    raw = gen.integers(0, 256, (w.shape[0], w.shape[1] // length, size), dtype=np.uint8)
    if kind == "NVFP4":
        raw[:, :, :4] = gen.integers(24, 48, raw[:, :, :4].shape)   # scales from 2^-4 to 2^-1, codes up to 6
        return raw.reshape(w.shape[0], -1)
    if kind == "MXFP4":
        raw[:, :, 0] = 127 - gen.integers(4, 6, raw.shape[:2])
        return raw.reshape(w.shape[0], -1)
    for scale in (1.0, None):  # once to see the spread, once to set it
        for i, at in enumerate(SCALES[kind]):
            d = (scale or factor) * (CENTRE.get(kind, 1.0) if i else 1.0) * (0.8 + 0.4 * gen.random(raw.shape[:2]))
            if kind == "IQ1_M":     # in the upper quarters of 16 bits
                for k in range(4):
                    piece = d.astype(np.float16).view(np.uint16) >> 4 * k & 15
                    raw[:, :, at + 2 * k + 1] = raw[:, :, at + 2 * k + 1] & 15 | piece << 4
                continue
            raw[:, :, at:at + 2] = d.astype(np.float16).view(np.uint8).reshape(*raw.shape[:2], 2)
        out = raw.reshape(w.shape[0], -1)
        factor = float(w.std() / gguf.quants.dequantize(out, qtype).std())
    return out


def quantise(model, conf, seed):
    """Replaces weights by what their quantised form says; returns {bytes of a float32 row: (format, its bytes)}."""
    gen, table, turn = np.random.default_rng(seed), {}, 0
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim < 2:
                continue
            expert = conf["model_type"] == "gpt_oss" and "experts" in name
            if expert and "bias" in name:
                continue
            w = p.transpose(-1, -2) if expert else p
            w = w.reshape(-1, w.shape[-1]).numpy().copy()
            key = next((k for k in conf["_quant"] if k in name), "any")
            if "narrow" in conf["_quant"] and w.shape[1] % 256:
                key = "narrow"
            if key not in conf["_quant"]:
                continue
            kinds = conf["_quant"][key].split()
            kind, turn = kinds[turn % len(kinds)], turn + 1
            qtype = gguf.GGMLQuantizationType[kind]
            q = random_blocks(w, kind, gen) if kind in SCALES or kind in ("MXFP4", "NVFP4") else gguf.quants.quantize(w, qtype)
            d = gguf.quants.dequantize(q, qtype).astype(np.float32).reshape(w.shape)
            for row, bits in zip(d, q):
                table[row.tobytes()] = (qtype, np.ascontiguousarray(bits).view(np.uint8))
            d = torch.from_numpy(d)
            p.copy_(d.reshape(p.shape[0], p.shape[2], p.shape[1]).transpose(1, 2) if expert else d)
    return table


def rounded(x):
    """Activations as quantised products see them: blocks of 32 in steps of their largest magnitude / 127."""
    b = x.reshape(*x.shape[:-1], -1, 32)
    d = b.abs().amax(-1, keepdim=True) / 127
    return (torch.round(b / d.clamp(min=1e-30)) * (d.half().double() if half_scales else d)).reshape(x.shape)


half_scales = False  # llama.cpp keeps the step in 16 bits


def round_activations(model, table):
    """Hooks for every module whose weight is quantised to blocks; embeddings look rows up and need none."""
    def hook(_m, args):
        return (rounded(args[0]),) + args[1:]

    for m in model.modules():
        if isinstance(m, torch.nn.Linear):
            found = table.get(m.weight[0].detach().float().numpy().tobytes())
            if found and found[0].name not in ("F16", "BF16"):
                m.register_forward_pre_hook(hook)
        elif type(m).__name__ == "GptOssExperts":
            m.register_forward_pre_hook(hook)
            m._apply_gate = lambda x, gate=m._apply_gate: rounded(gate(x))


def requantise(path, table):
    """The F32 file with every tensor whose rows are all in the table stored as those rows' bytes."""
    reader = gguf.GGUFReader(path)
    field = reader.get_field("general.architecture")
    writer = gguf.GGUFWriter(path + ".new", field.contents())
    for f in reader.fields.values():
        if f.name.startswith("GGUF.") or f.name == "general.architecture":
            continue
        kind = f.types[0]
        writer.add_key_value(f.name, f.contents(), kind, f.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for t in reader.tensors:
        rows = np.array(t.data, dtype=np.float32)
        flat = rows.reshape(-1, rows.shape[-1])
        found = [table.get(r.tobytes()) for r in flat] if rows.ndim > 1 else [None]
        if any(f is None for f in found):
            writer.add_tensor(t.name, rows)
            continue
        bits = np.stack([f[1] for f in found])
        writer.add_tensor(t.name, bits.reshape(rows.shape[:-1] + bits.shape[-1:]), raw_dtype=found[0][0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(path + ".new", path)


# ---- reference -------------------------------------------------------------------------------------------------


def run(model, tokens):
    """Logits [T, N]; an encoder-decoder reads what stands before the start token, and has none there: zeros."""
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            n = tokens.index(model.config.decoder_start_token_id)
            z = model(input_ids=torch.tensor([tokens[:n]]), decoder_input_ids=torch.tensor([tokens[n:]]), use_cache=False).logits[0].double()
            return torch.cat([torch.zeros(n, z.shape[1], dtype=z.dtype), z])
        return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].double()


def generate(model, prompt, n):
    """Greedy continuation, its logits at every position, and the smallest lead of the best logit."""
    seq, margin = list(prompt), math.inf
    for _ in range(n):
        top = torch.topk(run(model, seq)[-1], 2)
        margin = min(margin, float(top.values[0] - top.values[1]))
        seq.append(int(top.indices[0]))
    return seq[len(prompt):], run(model, seq), margin


def rope_permuted(x, n_head):
    """q or k [T, n_head * d]: half-split order of transformers to the interleaved order of llama's GGUF."""
    t, d = x.shape[0], x.shape[1] // n_head
    return x.reshape(t, n_head, 2, d // 2).transpose(2, 3).reshape(t, -1)


def trace(model, conf, tokens):
    """Every intermediate of gpt2 and llama toys, by hooks on the modules; returns {name: [T, C]}."""
    out, is_llama = {}, conf["model_type"] == "llama"
    handles = []

    def keep(module, name, what="out", post=lambda x: x):
        def hook(_m, args, result):
            x = args[0] if what == "in" else (result[0] if isinstance(result, tuple) else result)
            out[name] = post(x[0].double())
        handles.append(module.register_forward_hook(hook))

    if is_llama:
        from transformers.models.llama import modeling_llama as ml
        body, layers = model.model, model.model.layers
        n_head, n_kv = conf["num_attention_heads"], conf["num_key_value_heads"]
        rope, calls = ml.apply_rotary_pos_emb, []

        def roped(q, k, *args, **kwargs):
            q, k = rope(q, k, *args, **kwargs)
            flat = [x[0].transpose(0, 1).reshape(x.shape[2], -1).double() for x in (q, k)]
            out["%d.q_rope" % len(calls)] = rope_permuted(flat[0], n_head)
            out["%d.k_rope" % len(calls)] = rope_permuted(flat[1], n_kv)
            calls.append(1)
            return q, k

        ml.apply_rotary_pos_emb = roped
        keep(layers[0], "embd", "in")
        for i, b in enumerate(layers):
            keep(b.input_layernorm, "%d.attn_norm" % i)
            keep(b.self_attn.q_proj, "%d.q" % i, post=lambda x: rope_permuted(x, n_head))
            keep(b.self_attn.k_proj, "%d.k" % i, post=lambda x: rope_permuted(x, n_kv))
            keep(b.self_attn.v_proj, "%d.v" % i)
            keep(b.self_attn.o_proj, "%d.att" % i, "in")
            keep(b.self_attn.o_proj, "%d.attn_out" % i)
            keep(b.post_attention_layernorm, "%d.resid" % i, "in")
            keep(b.post_attention_layernorm, "%d.ffn_norm" % i)
            keep(b.mlp.gate_proj, "%d.ffn_gate" % i)
            keep(b.mlp.up_proj, "%d.ffn_up" % i)
            keep(b.mlp.down_proj, "%d.ffn_act" % i, "in")
            keep(b.mlp.down_proj, "%d.ffn_down" % i)
            keep(b, "%d.out" % i)
        keep(body.norm, "norm")
    else:
        body, layers, d = model.transformer, model.transformer.h, conf["n_embd"]
        keep(layers[0], "embd", "in")
        for i, b in enumerate(layers):
            keep(b.ln_1, "%d.attn_norm" % i)
            for j, name in enumerate("qkv"):
                keep(b.attn.c_attn, "%d.%s" % (i, name), post=lambda x, j=j: x[:, j * d:(j + 1) * d])
            keep(b.attn.c_proj, "%d.att" % i, "in")
            keep(b.attn.c_proj, "%d.attn_out" % i)
            keep(b.ln_2, "%d.resid" % i, "in")
            keep(b.ln_2, "%d.ffn_norm" % i)
            keep(b.mlp.c_fc, "%d.ffn_up" % i)
            keep(b.mlp.c_proj, "%d.ffn_act" % i, "in")
            keep(b.mlp.c_proj, "%d.ffn_down" % i)
            keep(b, "%d.out" % i)
        keep(body.ln_f, "norm")
    out["logits"] = run(model, tokens)
    for h in handles:
        h.remove()
    if is_llama:
        ml.apply_rotary_pos_emb = rope
    order = sorted(out, key=lambda n: (0 if n == "embd" else 2 if n == "norm" else 3 if n == "logits" else 1,
                                       int(n.split(".")[0]) if "." in n else 0, LAYER_ORDER.index(n.split(".")[-1])
                                       if "." in n else 0))
    return {n: out[n] for n in order}


LAYER_ORDER = ("attn_norm q k v q_rope k_rope att attn_out resid ffn_norm ffn_gate ffn_up ffn_act ffn_down out").split()

# ---- llama.cpp, the second opinion -----------------------------------------------------------------------------


def peer(path, found, n, context):
    """One comment line: does llama.cpp continue greedily as transformers does?"""
    code = r"""
import sys, json, ctypes
import numpy as np
import llama_cpp as L
path, prompt, n, ctx = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
L.llama_backend_init()
mp = L.llama_model_default_params(); mp.n_gpu_layers = 0
m = L.llama_model_load_from_file(path.encode(), mp)
if not m: sys.exit(3)
cp = L.llama_context_default_params()
cp.n_ctx = ctx; cp.n_batch = ctx; cp.n_ubatch = ctx; cp.n_threads = 1; cp.n_threads_batch = 1
cp.type_k = 0; cp.type_v = 0
if hasattr(cp, "flash_attn_type"): cp.flash_attn_type = 0
if hasattr(cp, "swa_full"): cp.swa_full = True
c = L.llama_init_from_model(m, cp)
if not c: sys.exit(4)
nv = L.llama_vocab_n_tokens(L.llama_model_get_vocab(m))
toks, out, first = list(prompt), [], None
if L.llama_model_has_encoder(m):
    k = toks.index(L.llama_model_decoder_start_token(m))
    arr = (L.llama_token * k)(*toks[:k])
    if L.llama_encode(c, L.llama_batch_get_one(arr, k)): sys.exit(6)
    toks = toks[k:]
for i in range(n):
    feed = toks if i == 0 else toks[-1:]
    arr = (L.llama_token * len(feed))(*feed)
    if L.llama_decode(c, L.llama_batch_get_one(arr, len(feed))): sys.exit(5)
    lg = np.ctypeslib.as_array(L.llama_get_logits_ith(c, -1), (nv,)).copy()
    if first is None: first = lg.tolist()
    toks.append(int(lg.argmax())); out.append(toks[-1])
print("RESULT" + json.dumps([out, first]))
"""
    p = subprocess.run([sys.executable, "-c", code, path, json.dumps(found[0]), str(n), str(context)],
                       capture_output=True, text=True)
    lines = [x for x in p.stdout.splitlines() if x.startswith("RESULT")]
    if not lines:
        why = [x for x in p.stderr.splitlines() if "error loading model:" in x or "ASSERT" in x]
        why = (why or p.stderr.splitlines() or ["exit status %d" % p.returncode])[0]
        return "# llama.cpp: does not run this file: " + why.strip()[:150]
    got, first = json.loads(lines[0][6:])
    want, logits0 = found[1], found[2][len(found[0]) - 1].numpy()
    if got == want:
        return "# llama.cpp: %d greedy tokens equal" % n
    at = next(i for i in range(n) if got[i] != want[i])
    err = float(np.max(np.abs(np.array(first)[:len(logits0)] - logits0)) / np.max(np.abs(logits0)))
    return "# llama.cpp: differs at greedy token %d (prompt's last logits differ by %.3g relative)" % (at, err)


def peer_half_scales(model, path, found, n):
    global half_scales
    half_scales = True
    greedy, logits, _ = generate(model, found[0], n)
    half_scales = False
    line = peer(path, (found[0], greedy, logits), n, 128)
    return line + "; its 16-bit steps of activations were used for this comparison"


def have_peer():
    return subprocess.run([sys.executable, "-c", "import llama_cpp"], capture_output=True).returncode == 0


# ---- files -----------------------------------------------------------------------------------------------------


def num(x):
    return ("%.9g" % x).replace("e-0", "e-").replace("e+0", "e+")


def nums(row):
    return " ".join(num(float(v)) for v in row)


# llama.cpp's own converter, run as it is but for the vocabulary, which toys do not have
LLAMA_CPP_CONVERT = """
import json
import sys
sys.path.insert(0, sys.argv[1])
import convert_hf_to_gguf as tool
from conversion.base import ModelBase
def set_vocab(self):
    self.gguf_writer.add_tokenizer_model("no_vocab")
    self.gguf_writer.add_vocab_size(self.hparams["vocab_size"])
def derived(cls):
    return [cls] + [d for c in cls.__subclasses__() for d in derived(c)]
main = tool.main
load_hparams = ModelBase.load_hparams
def as_published(folder, *args, **kwargs):  # transformers adds numbers of experts to Nemotron H, and renames that of Sarvam
    with open(folder / "config.json") as f:
        conf = json.load(f)
    return conf if conf["model_type"] in ("nemotron_h", "sarvam_moe") else load_hparams(folder, *args, **kwargs)
ModelBase.load_hparams = staticmethod(as_published)
original = ModelBase.__init__
def init(self, *args, **kwargs):
    type(self).set_vocab = set_vocab
    original(self, *args, **kwargs)
    self.hparams.setdefault("activation_function", self.hparams.get("hidden_act"))  # of EXAONE 3, which transformers renames
    if "attention_chunk_size" in self.hparams:  # in Llama 4's files nobody says so, as all have the same
        self.gguf_writer.add_sliding_window(self.hparams["attention_chunk_size"])
        self.gguf_writer.add_attn_temperature_length(self.hparams["floor_scale"])
        self.gguf_writer.add_attn_temperature_scale(self.hparams["attn_scale"])
ModelBase.__init__ = init
from conversion.baichuan import BaichuanModel, TextModel
theirs = BaichuanModel.modify_tensors
def modify_tensors(self, x, name, bid):  # it calls itself for ever where it means its base class
    yield from (theirs if "W_pack" in name else TextModel.modify_tensors)(self, x, name, bid)
BaichuanModel.modify_tensors = modify_tensors
sys.argv = [sys.argv[0], sys.argv[2], "--outfile", sys.argv[3], "--outtype", "f32"] + sys.argv[4:]
main()
"""


def convert(folder, path, kind="f32", llama_cpp=False):
    if llama_cpp:
        with open(os.path.join(folder, "config.json")) as f:
            conf = json.load(f)
        no_mtp = ["--no-mtp"] if "linear_num_key_heads" in conf and "mtp_num_hidden_layers" not in conf else []
        subprocess.run([sys.executable, "-c", LLAMA_CPP_CONVERT, os.environ["LLAMA_CPP"], folder, path] + no_mtp, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return
    subprocess.run([sys.executable, CONVERT, folder, "-o", path, "--type", kind, "--no-tokenizer"], check=True,
                   stdout=subprocess.DEVNULL)


def search_prompt(model, conf, seed):
    """A prompt whose greedy path has clear winners; the seed of the weights is given up when none of 20 has."""
    n_prompt, n_greedy = conf.get("_n_prompt", N_PROMPT), conf.get("_n_greedy", N_GREEDY)
    n_peer = max(n_greedy, conf.get("_n_peer", N_PEER))
    rng = np.random.default_rng(seed)
    for _ in range(20):
        prompt = [int(t) for t in rng.integers(3, conf["vocab_size"], n_prompt)]
        if "_n_encoder" in conf:
            prompt[conf["_n_encoder"]] = conf["decoder_start_token_id"]
        greedy, logits, margin = generate(model, prompt, n_peer)
        spread = float(logits[conf.get("_n_encoder", 0):].std(dim=-1).mean())
        if margin > conf.get("_lead", 5e-3) and len(set(greedy[:n_greedy])) >= n_greedy // 3 and spread > 1.0:
            return prompt, greedy, logits, margin
    return None


def head_line(conf, extra):
    return ["# made by tests/make_goldens.py: %s of transformers %s, torch %s, gguf %s, float64, eager attention%s" % (
        conf["architectures"][0], transformers.__version__, torch.__version__.split("+")[0], package_version("gguf"),
        extra)]


def package_version(name):
    from importlib.metadata import version
    return version(name)


def write_text(name, conf, model, found, peer_line, extra=""):
    prompt, greedy, logits, margin = found
    n_greedy = conf.get("_n_greedy", N_GREEDY)
    last = len(prompt) - 1
    where = sorted({0, 1, 7, 8, 9, last // 2, last, last + 1, last + n_greedy // 2, last + n_greedy - 1})
    if "_n_encoder" in conf:
        where = sorted({conf["_n_encoder"], last - 1} | {p for p in where if p >= last})
    lines = head_line(conf, extra)
    lines.append("# config: " + json.dumps(public(conf)))
    lines.append("# the best logit leads by at least %.3g" % margin)
    if peer_line:
        lines.append(peer_line)
    lines.append("context %d" % conf.get("_context", 128))
    lines.append("prompt " + " ".join(map(str, prompt)))
    lines.append("greedy " + " ".join(map(str, greedy[:n_greedy])))
    for p in where:
        if p < len(logits):
            lines.append("logits %d %s" % (p, nums(logits[p])))
    if conf.get("_trace"):
        if conf["model_type"] == "llama":
            lines.append("# q, k, q_rope and k_rope are permuted per head for interleaved rope, as the GGUF's rows are")
        for tname, x in trace(model, conf, prompt[:TRACE_ROWS]).items():
            lines.append("tensor %s %d %d %s" % (tname, x.shape[0], x.shape[1], nums(x.reshape(-1))))
    path = os.path.join(OUT, name + ".txt")
    with open(path, "w") as f:
        f.write("\n".join(lines) + "\n")
    return os.path.getsize(path)


def make(name, conf, with_peer):
    for seed in range(1, 40):
        with tempfile.TemporaryDirectory() as temp:
            folder = os.path.join(temp, name)  # its name gets into the file
            os.mkdir(folder)
            model, table = build(conf, seed * 1000 + len(name), folder)
            model = model.double()
            if table:
                round_activations(model, table)
            found = search_prompt(model, conf, seed)
            if found is None:
                continue
            path = os.path.join(OUT, name + ".gguf")
            convert(folder, path, llama_cpp=conf.get("_llama_cpp", False))
            if table:
                requantise(path, table)
            line = ""
            if with_peer:
                n = max(conf.get("_n_greedy", N_GREEDY), conf.get("_n_peer", N_PEER))
                line = peer(path, found, n, conf.get("_context", 128))
                if "differs" in line and table:
                    line = peer_half_scales(model, path, found, n)
                if "differs" in line and "_peer" in conf:
                    with tempfile.TemporaryDirectory() as again:
                        other, table = build(dict(conf, **conf["_peer"]), seed * 1000 + len(name), again)
                    other = other.double()
                    if table:
                        round_activations(other, table)
                    greedy, logits, _ = generate(other, found[0], n)
                    line = peer(path, (found[0], greedy, logits), n, conf.get("_context", 128))
                    line += "; it computes this architecture with %s, and so did transformers for this comparison" % (
                        json.dumps(conf["_peer"]))
            how = ", this file's dequantised weights, rounded activations" if table else ""
            size = write_text(name, conf, model, found, line, how)
            print("%-16s seed %d, gguf %d bytes, text %d bytes, margin %.3g, spread %.2f %s" % (
                name, seed, os.path.getsize(path), size, found[3], float(found[2].std(dim=-1).mean()), line))
            assert os.path.getsize(path) <= 120 * 1024 and size < 100 * 1024
            return
    raise SystemExit("%s: no seed gives clear greedy choices" % name)


def main():
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    os.makedirs(OUT, exist_ok=True)
    with_peer = have_peer()
    for name in sys.argv[1:] or TOYS:
        make(name, TOYS[name], with_peer)


if __name__ == "__main__":
    main()
