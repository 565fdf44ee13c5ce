// Times calls of an artifact through the C ABI and through bare LibTorch, in turn, on the artifact's own golden inputs.
//
//     bench_embed_host model.pt forward|guarded warm-ups calls
//
// Prints a line for each call: nanoseconds of bare LibTorch, then of hpcs_apply. Bare is what a host would do that was
// written for this artifact alone: tensors over its arrays made beforehand, one call of the method, and its result
// copied into the output's array.
#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "hpcsurrogate.h"

namespace {

using Clock = std::chrono::steady_clock;

hpcs_array view(const at::Tensor& tensor) {
    hpcs_array array{};
    array.data = tensor.data_ptr();
    array.dtype = tensor.scalar_type() == at::kDouble ? HPCS_FLOAT64 : HPCS_FLOAT32;
    array.num_dims = static_cast<int>(tensor.dim());
    for (int axis = 0; axis < array.num_dims; ++axis) {
        array.shape[axis] = tensor.size(axis);
        array.strides[axis] = tensor.stride(axis);
    }
    return array;
}

std::int64_t nanoseconds(const std::function<void()>& call) {
    const auto start = Clock::now();
    call();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

void require(bool holds, const std::string& what) {
    if (!holds) {
        throw std::runtime_error(what);
    }
}

void require_ok(int status) {
    require(status == HPCS_OK, hpcs_last_error());
}

void run(const char* path, bool guarded, long warm_ups, long calls) {
    hpcs_options options;
    hpcs_default_options(&options);
    options.unguarded = !guarded;
    hpcs_closure* closure = nullptr;
    require_ok(hpcs_open(path, &options, &closure));

    const c10::InferenceMode inference;
    at::set_num_threads(1);
    torch::jit::Module module = torch::jit::load(path);
    const auto golden = module.attr("golden").toTensorVector();
    const std::vector<at::Tensor> inputs(golden.begin(), golden.end() - 1);
    at::Tensor bare_output = at::empty_like(golden.back()), output = at::empty_like(golden.back());
    const auto method = module.get_method(guarded ? "guarded" : "forward");
    const std::function<void()> bare = [&] {
        auto result = method(std::vector<c10::IValue>(inputs.begin(), inputs.end()));
        bare_output.copy_(guarded ? result.toTupleRef().elements()[0].toTensor() : result.toTensor());
    };

    std::vector<hpcs_array> arrays;
    for (const at::Tensor& input : inputs) {
        arrays.push_back(view(input));
    }
    const hpcs_array result = view(output);
    int status = HPCS_OK;
    const std::function<void()> apply = [&] {
        status = hpcs_apply(closure, static_cast<int>(arrays.size()), arrays.data(), &result, nullptr);
    };

    for (long call = 0; call < warm_ups + calls; ++call) {
        const bool bare_first = call % 2 == 0;
        const std::int64_t first = nanoseconds(bare_first ? bare : apply);
        const std::int64_t second = nanoseconds(bare_first ? apply : bare);
        require_ok(status);
        if (call >= warm_ups) {
            std::cout << (bare_first ? first : second) << ' ' << (bare_first ? second : first) << '\n';
        }
    }
    hpcs_counts counts{};
    require_ok(hpcs_total_counts(closure, &counts));
    require(counts.outside + counts.not_finite + counts.failed == 0, "cells fell back in the call to be timed");
    // Round-off apart: where arrays lie in memory may decide how a product of matrices is summed.
    require(output.allclose(bare_output, 1e-4, 1e-5), "hpcs_apply and bare LibTorch differ");
    hpcs_close(closure);
}

}  // namespace

int main(int argc, char** argv) try {
    require(argc == 5, "usage: bench_embed_host model.pt forward|guarded warm-ups calls");
    run(argv[1], std::string(argv[2]) == "guarded", std::atol(argv[3]), std::atol(argv[4]));
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
