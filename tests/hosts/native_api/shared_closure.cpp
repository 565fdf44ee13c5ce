// Threads that share a closure get the bits that one thread gets alone.
//
//     shared_closure ARTIFACT THREADS CALLS
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "hpcsurrogate.h"

namespace {

hpcs_array array_of(std::vector<float>& data, const std::vector<std::int64_t>& shape) {
    std::int64_t length = 1;
    hpcs_array array{nullptr, HPCS_FLOAT32, static_cast<int>(shape.size()), {}, {}};
    for (int axis = array.num_dims - 1; axis >= 0; --axis) {
        array.shape[axis] = shape[axis];
        array.strides[axis] = length;
        length *= shape[axis];
    }
    data.resize(length);
    array.data = data.data();
    return array;
}

/// The result of call number `call`, each of its own size and with its own cells outside the trained range.
std::vector<float> result_of(hpcs_closure* closure, bool is_grid, int call) {
    const std::int64_t nx = 8 + call % 5, ny = 8 + call % 3;
    std::vector<float> first, width, result;
    std::vector<hpcs_array> inputs = {is_grid ? array_of(first, {1, 2, nx, ny}) : array_of(first, {nx * ny, 4})};
    const hpcs_array output = is_grid ? array_of(result, {1, 2, nx, ny}) : array_of(result, {nx * ny, 3});
    if (!is_grid)
        inputs.push_back(array_of(width, {nx * ny}));
    unsigned state = 17 + call;
    for (float& number : first)
        number = (state = state * 1664525u + 1013904223u) / 4294967296.0f - 0.5f;
    for (float& number : width)
        number = 0.1f;
    if (call % 3 == 0)
        first[call % first.size()] = 1e20f;
    const int status = hpcs_apply(closure, static_cast<int>(inputs.size()), inputs.data(), &output, nullptr);
    if (!hpcs_is_recoverable(status))
        result.clear();
    // An error of one thread is not that of another.
    const hpcs_array wrong{nullptr, HPCS_FLOAT32, 9, {}, {}};
    if (hpcs_apply(closure, 1, &wrong, &output, nullptr) != HPCS_BAD_ARGUMENT || *hpcs_last_error() == '\0')
        result.clear();
    return result;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4)
        return 2;
    const int num_threads = std::atoi(argv[2]), calls = std::atoi(argv[3]);
    hpcs_closure* closure = nullptr;
    if (hpcs_open(argv[1], nullptr, &closure) != HPCS_OK)
        return std::puts(hpcs_last_error()), 1;
    const bool is_grid = std::string(hpcs_fact(closure, "kind")) == "grid";
    std::vector<std::vector<float>> serial;
    for (int call = 0; call < calls; ++call)
        serial.push_back(result_of(closure, is_grid, call));

    std::atomic<int> different{0};
    std::vector<std::thread> threads;
    for (int thread = 0; thread < num_threads; ++thread)
        threads.emplace_back([&, thread] {
            for (int i = 0; i < calls; ++i) {
                const int call = (i + thread * 7) % calls;
                const std::vector<float> result = result_of(closure, is_grid, call);
                different += result.empty() || result.size() != serial[call].size() ||
                             std::memcmp(result.data(), serial[call].data(), result.size() * sizeof(float)) != 0;
            }
        });
    for (std::thread& thread : threads)
        thread.join();
    hpcs_counts total;
    hpcs_total_counts(closure, &total);
    hpcs_close(closure);
    const std::int64_t expected = static_cast<std::int64_t>(num_threads + 1) * calls;
    std::printf("different %d calls %ld of %ld\n", different.load(), static_cast<long>(total.calls),
                static_cast<long>(expected));
    return different == 0 && total.calls == expected ? 0 : 1;
}
