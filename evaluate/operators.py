"""Which operators the scorer runs.

Listed are pure functions of their tensor arguments, with their in-place twins: an in-place
operator on an intermediate is harmless, one on a parameter or buffer is found by the version
counters (`graph.py`). Left out: random ones (a score must repeat), uninitialised memory
(`empty`), raw storage access (`as_strided`, `set_`, `resize_`), files, anything that leaves the
device, and whatever trusts the numbers in its arguments as places in memory (`embedding_bag`'s
offsets, packed sequences, `searchsorted`'s sorter, the pivots of `lu_solve`, the lengths of
`_weight_norm`): a read out of bounds could find the very text that is scored. Views that no version
counter sees (`_unsafe_view`, `unsafe_chunk`, `unsafe_split`) are left out as well: a model that can
write to its own parameters remembers the rows that were scored, and answers the probes from memory.
"""

UNSAFE_OVERLOADS = frozenset({"out", "data"})
"""Overloads that resize a given tensor, under their most common name (`signatures.py` finds the
others), and recurrent ones over packed rows."""
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
"""Python operators on sizes and on tuples of results. Left out: powers, whose cost has no bound."""

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
square sub subtract tan tanh threshold trunc where xlogy __and__ __or__ __xor__ __lshift__
__rshift__ masked_fill masked_scatter fill zero true_divide
absolute angle arccos arccosh arcsin arcsinh arctan arctan2 arctanh conj_physical digamma fix
float_power fmax fmin frexp gcd hypot i0 igamma igammac isclose isin isneginf isposinf isreal lcm
log_sigmoid_forward mvlgamma nextafter polygamma positive rad2deg rrelu signbit
special_entr special_erf special_erfc special_erfcx special_erfinv special_exp2 special_expit
special_expm1 special_i0 special_i0e special_i1 special_i1e special_log1p special_log_ndtr
special_log_softmax special_logit special_logsumexp special_ndtr special_ndtri special_round
special_sinc special_softmax special_xlog1py special_xlogy
"""

_REDUCTIONS = """
all amax amin aminmax any argmax argmin argsort bincount count_nonzero cummax cummin cumprod
cumsum logcumsumexp logsumexp max mean median min norm prod sort std std_mean sum topk unique_dim
var var_mean linalg_vector_norm bucketize searchsorted histc kthvalue diff nansum nanmean
allclose argwhere corrcoef cov cosine_embedding_loss binary_cross_entropy
binary_cross_entropy_with_logits dist equal frobenius_norm huber_loss kl_div l1_loss linalg_norm
linalg_matrix_norm mode mse_loss msort nanmedian nonzero_numpy norm_except_dim nuclear_norm
smooth_l1_loss trace unique_consecutive _unique2
"""

_SHAPES = """
alias cat chunk clone concat concatenate contiguous copy detach diag diag_embed diagonal expand
expand_as flatten flip fliplr flipud gather hsplit hstack index index_add index_copy index_fill
index_put index_select lift_fresh lift_fresh_copy masked_select meshgrid movedim moveaxis narrow
nonzero nonzero_static one_hot pad permute pixel_shuffle pixel_unshuffle repeat
repeat_interleave reshape reshape_as roll rot90 scatter scatter_add scatter_reduce select
select_scatter slice slice_scatter split split_with_sizes squeeze stack swapaxes swapdims t take
take_along_dim tensor_split tile transpose tril triu tril_indices triu_indices type_as unbind
unflatten unfold unsqueeze view view_as view_as_complex view_as_real
vsplit vstack dstack dsplit resolve_conj resolve_neg real imag complex conj polar _conj
constant_pad_nd _to_copy to unfold_copy reflection_pad1d
replication_pad1d sym_size sym_numel numel size dim is_nonzero item _local_scalar_dense
adjoint atleast_3d block_diag channel_shuffle column_stack combinations cross diagflat
diagonal_scatter lift matrix_H mH mT native_channel_shuffle numpy_T pad_sequence ravel row_stack
sum_to_size trapz vander
"""

_CREATION = """
arange eye full full_like linspace logspace new_full new_ones new_zeros ones ones_like scalar_tensor
zeros zeros_like bartlett_window blackman_window hamming_window hann_window kaiser_window
fft_fftfreq fft_rfftfreq
"""

_NETWORKS = """
addbmm addmm addmv addr baddbmm bilinear bmm conv1d conv2d conv_transpose1d convolution
cosine_similarity cross_entropy_loss dot dropout einsum embedding fft_fft fft_fft2
fft_ifft fft_ifft2
fft_irfft fft_rfft fft_hfft fft_ihfft group_norm gru inner instance_norm kron layer_norm
linalg_cross linear log_softmax lstm matmul mm mv native_group_norm native_layer_norm nll_loss outer
pairwise_distance rms_norm rnn_relu rnn_tanh scaled_dot_product_attention softmax
tensordot tril avg_pool1d max_pool1d adaptive_avg_pool1d
_softmax _log_softmax cumulative_trapezoid trapezoid chain_matmul linalg_multi_dot cdist
cartesian_prod broadcast_to broadcast_tensors atleast_1d atleast_2d batch_norm
_fused_rms_norm _grouped_mm
_prelu_kernel _safe_softmax _trilinear
alpha_dropout avg_pool2d conv_tbc conv_transpose2d feature_alpha_dropout
feature_dropout fft_fftn fft_fftshift fft_ifftn fft_ifftshift fft_irfft2 fft_irfftn fft_rfft2
fft_rfftn ger gru_cell im2col linalg_cholesky linalg_cholesky_ex linalg_det linalg_diagonal
linalg_eigh linalg_eigvalsh linalg_householder_product linalg_inv linalg_inv_ex linalg_matmul
linalg_matrix_exp linalg_matrix_power linalg_pinv linalg_qr linalg_slogdet linalg_solve
linalg_solve_ex linalg_solve_triangular linalg_svd linalg_svdvals linalg_vander linalg_vecdot
cholesky cholesky_inverse cholesky_solve det inverse logdet lstm_cell matrix_exp matrix_power
max_pool1d_with_indices pdist pinverse qr renorm rnn_relu_cell rnn_tanh_cell slogdet svd
triangular_solve upsample_linear1d upsample_nearest1d vdot
"""

_ALL = frozenset((_POINTWISE + _REDUCTIONS + _SHAPES + _CREATION + _NETWORKS).split())

ALLOWED = _ALL | frozenset(f"{name}_" for name in _ALL)
"""Base names in the namespace `aten`, with every overload, and their in-place twins."""
