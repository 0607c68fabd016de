"""The transformer's hot functions for training on processors: diffusers' mathematics with fewer passes over memory.

What goes forward and its gradients differ by 1 %, as they do in bfloat16 anyway.
"""

import torch
from diffusers.models import normalization
from diffusers.models.transformers import transformer_ltx2 as ltx2


class _Attention(torch.autograd.Function):
    """Attention in plain products, whose weights are kept in half precision for the way back."""

    @staticmethod
    def forward(ctx, q, k, v, bias, scale):
        logits = torch.matmul(q * scale, k.transpose(-1, -2))
        if bias is not None:
            logits += bias
        weights = torch.softmax(logits, -1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale = scale
        return weights @ v

    @staticmethod
    def backward(ctx, grad):
        q, k, v, weights = ctx.saved_tensors
        out_v = weights.transpose(-1, -2) @ grad
        inner = _softmax_back(weights, grad @ v.transpose(-1, -2))
        return inner @ k * ctx.scale, inner.transpose(-1, -2) @ q * ctx.scale, out_v, None, None


def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros(attn_mask.shape, dtype=query.dtype).masked_fill_(~attn_mask, -1e4)
    if is_causal:
        causal = torch.full((query.shape[-2], key.shape[-2]), -1e4, dtype=query.dtype).triu(1)
        attn_mask = causal if attn_mask is None else attn_mask + causal
    if attn_mask is not None:
        attn_mask = attn_mask.to(query.dtype)
    return _Attention.apply(query, key, value, attn_mask, scale or query.shape[-1] ** -0.5)


@torch.compile
def _normed(x, eps):
    wide = x.float()
    r = (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    return (wide * r).to(x.dtype), r


@torch.compile
def _normed_back(g, y, r):
    wide, y = g.float(), y.float()
    return ((wide - y * (wide * y).mean(-1, keepdim=True)) * r).to(g.dtype)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, eps):
        y, r = _normed(x, eps)
        ctx.save_for_backward(y, r)
        return y

    @staticmethod
    def backward(ctx, g):
        return _normed_back(g, *ctx.saved_tensors), None


def _norm(self, x):
    y = _Norm.apply(x, self.eps or 1e-6)
    return y if self.weight is None else y * self.weight


@torch.compile
def _turned(x, cos, sin):
    first, second = x[..., 0, :].float(), x[..., 1, :].float()
    return torch.stack([first * cos - second * sin, second * cos + first * sin], -2).to(x.dtype)


def _turn(x, cos, sin, sign):
    b, h, t, r = cos.shape
    c, s = cos[:1].transpose(1, 2).contiguous(), (sin[:1] * sign).transpose(1, 2).contiguous()
    return _turned(x.reshape(x.shape[0], t, h, 2, r), c, s).view(x.shape[0], t, -1)


class _Rope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1)

    @staticmethod
    def backward(ctx, g):
        cos, sin = ctx.saved_tensors
        return _turn(g, cos, sin, -1), None, None


@torch.compile
def _softmax_back(weights, inner):
    wide, inner = weights.float(), inner.float()
    return (wide * (inner - (wide * inner).sum(-1, keepdim=True))).to(weights.dtype)


def use() -> None:
    """From here on, in the whole process."""
    torch.set_flush_denormal(True)
    torch._dynamo.config.cache_size_limit = 64
    torch.nn.functional.scaled_dot_product_attention = _attention
    normalization.RMSNorm.forward = _norm
    ltx2.RMSNorm.forward = _norm
    torch.nn.RMSNorm.forward = _norm
    ltx2.apply_split_rotary_emb = lambda x, freqs: _Rope.apply(x, *freqs)
