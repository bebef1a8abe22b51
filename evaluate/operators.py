"""Which operators the scorer runs.

Listed are pure functions of their tensor arguments, with their in-place twins: an in-place
operator on an intermediate is harmless, one on a parameter or buffer is found by the version
counters (`graph.py`). Left out: random ones (a score must repeat), uninitialised memory
(`empty`), raw storage access (`as_strided`, `set_`, `resize_`), files, anything that leaves the
device, and whatever trusts the numbers in its arguments as places in memory (`embedding_bag`'s
offsets, packed sequences, `searchsorted`'s sorter): a read out of bounds could find the very
text that is scored.
"""

UNSAFE_OVERLOADS = ("out", "data")
"""Ends of overload names: those that resize a given tensor, and recurrent ones over packed rows."""
UNSAFE_ARGUMENTS = frozenset({"sorter", "out"})

PLAIN = frozenset(
    f"operator.{name}"
    for name in [
        "getitem",
        "add",
        "sub",
        "mul",
        "floordiv",
        "mod",
        "neg",
        "truediv",
        "pow",
        "lt",
        "le",
        "gt",
        "ge",
        "eq",
        "ne",
        "and_",
        "or_",
        "not_",
    ]
)
"""Python operators on sizes and on tuples of results."""

HIGHER_ORDER = frozenset({
    "higher_order.wrap_with_autocast",
    "higher_order.wrap_with_set_grad_enabled",
})  # fmt: skip
"""Operators that run a subgraph under a mode."""

_POINTWISE = """
abs acos acosh add addcdiv addcmul asin asinh atan atan2 atanh bitwise_and bitwise_left_shift
bitwise_not bitwise_or bitwise_right_shift bitwise_xor ceil celu clamp clamp_max clamp_min clip
copysign cos cosh deg2rad div divide elu eq erf erfc erfinv exp exp2 expm1 floor floor_divide fmod
frac ge gelu glu greater greater_equal gt hardshrink hardsigmoid hardswish hardtanh heaviside
isfinite isinf isnan ldexp le leaky_relu lerp less less_equal lgamma log log10 log1p log2
log_sigmoid logaddexp logaddexp2 logical_and logical_not logical_or logical_xor logit lt maximum
minimum mish mul multiply ne neg negative nan_to_num not_equal pow prelu reciprocal relu relu6
remainder round rsqrt rsub selu sgn sigmoid sign sin sinc sinh softplus softshrink silu sqrt
square sub subtract tan tanh threshold trunc where xlogy xor __and__ __or__ __xor__ __lshift__
__rshift__ masked_fill masked_scatter fill zero true_divide
"""

_REDUCTIONS = """
all amax amin aminmax any argmax argmin argsort bincount count_nonzero cummax cummin cumprod
cumsum logcumsumexp logsumexp max mean median min norm prod sort std std_mean sum topk unique_dim
var var_mean linalg_vector_norm bucketize searchsorted histc kthvalue diff nansum nanmean
"""

_SHAPES = """
alias cat chunk clone concat concatenate contiguous copy detach diag diag_embed diagonal expand
expand_as flatten flip fliplr flipud gather hsplit hstack index index_add index_copy index_fill
index_put index_select lift_fresh lift_fresh_copy masked_select meshgrid movedim moveaxis narrow
nonzero nonzero_static one_hot pad permute pixel_shuffle pixel_unshuffle repeat
repeat_interleave reshape reshape_as roll rot90 scatter scatter_add scatter_reduce select
select_scatter slice slice_scatter split split_with_sizes squeeze stack swapaxes swapdims t take
take_along_dim tensor_split tile transpose tril triu tril_indices triu_indices type_as unbind
unflatten unfold unsafe_chunk unsafe_split unsqueeze view view_as view_as_complex view_as_real
vsplit vstack dstack dsplit resolve_conj resolve_neg real imag complex conj polar _conj
constant_pad_nd _to_copy to float half double bool _unsafe_view unfold_copy reflection_pad1d
replication_pad1d sym_size sym_numel numel size dim is_nonzero item _local_scalar_dense
"""

_CREATION = """
arange eye full full_like linspace logspace new_full new_ones new_zeros ones ones_like scalar_tensor
zeros zeros_like
"""

_NETWORKS = """
addbmm addmm addmv addr baddbmm bilinear bmm conv1d conv2d conv_transpose1d convolution
cosine_similarity cross_entropy_loss dot dropout einsum embedding fft_fft fft_fft2
fft_ifft fft_ifft2
fft_irfft fft_rfft fft_hfft fft_ihfft group_norm gru inner instance_norm kron layer_norm
linalg_cross linear log_softmax lstm matmul mm mv native_group_norm native_layer_norm nll_loss outer
pairwise_distance rms_norm rnn_relu rnn_tanh scaled_dot_product_attention softmax softmin
tensordot tril avg_pool1d max_pool1d adaptive_avg_pool1d
_softmax _log_softmax cumulative_trapezoid trapezoid chain_matmul linalg_multi_dot cdist
cartesian_prod broadcast_to broadcast_tensors atleast_1d atleast_2d batch_norm
_fused_rms_norm grouped_mm _grouped_mm
"""

_ALL = frozenset((_POINTWISE + _REDUCTIONS + _SHAPES + _CREATION + _NETWORKS).split())

ALLOWED = _ALL | frozenset(f"{name}_" for name in _ALL)
"""Base names in the namespace `aten`, with every overload, and their in-place twins."""
