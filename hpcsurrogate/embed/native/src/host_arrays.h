// Arrays of the host: are they what the artifact takes, and as tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

#include "hpcsurrogate.h"
#include "ports.h"

namespace hpcs {

using Halo = std::array<std::int64_t, 3>;  // along x, y, z

/// The number of cells of the output, once every array is found to be what `ports` says and to be safe to use.
///
/// Throws Error with HPCS_BAD_ARGUMENT (tests/hosts/test_native_api.py).
std::int64_t require_arrays(const Ports& ports, const Halo& halo, int num_inputs, const hpcs_array* inputs,
                            const hpcs_array* output);

/// The host's memory as a tensor, nothing copied.
at::Tensor view_of(const hpcs_array& array, at::Device device);

}  // namespace hpcs
