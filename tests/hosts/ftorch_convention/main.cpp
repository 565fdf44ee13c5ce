// Calls an artifact the way FTorch does, without FTorch: torch::jit::load reads the file, each Fortran array becomes a
// tensor over the same memory with strides of its own, and what forward returns is copied into the output's memory.
//
//     ftorch_convention model.pt nx ny float32|float64 < velocity.bin > acceleration.bin
//
// The arrays are column-major velocity(nx, ny, 2) and acceleration(nx, ny, 2).
#include <ATen/ops/from_blob.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <cstdint>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace {

// layout = (3, 4, 2, 1) of the Fortran call: x runs fastest in memory, then y, component and batch.
at::Tensor over_fortran_array(std::vector<char>& memory, std::int64_t nx, std::int64_t ny, at::ScalarType type) {
    const std::vector<std::int64_t> shape{1, 2, nx, ny};
    const std::vector<std::int64_t> strides{2 * nx * ny, nx * ny, 1, nx};
    return at::from_blob(memory.data(), shape, strides, at::TensorOptions().dtype(type));
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 5) {
        std::cerr << "usage: ftorch_convention model.pt nx ny float32|float64\n";
        return 2;
    }
    const std::int64_t nx = std::stoll(argv[2]), ny = std::stoll(argv[3]);
    const at::ScalarType type = std::string(argv[4]) == "float64" ? at::kDouble : at::kFloat;
    std::vector<char> velocity(static_cast<std::size_t>(2 * nx * ny) * at::elementSize(type));
    std::vector<char> acceleration(velocity.size());
    if (!std::cin.read(velocity.data(), static_cast<std::streamsize>(velocity.size()))) {
        std::cerr << "standard input ends before velocity(nx, ny, 2) is complete\n";
        return 3;
    }
    const at::NoGradGuard no_gradients;
    torch::jit::Module model = torch::jit::load(argv[1], at::Device(at::kCPU));
    model.eval();
    std::vector<torch::jit::IValue> inputs{over_fortran_array(velocity, nx, ny, type)};
    at::Tensor output = over_fortran_array(acceleration, nx, ny, type);
    std::move(output) = model.forward(inputs).toTensor();  // to an rvalue: copies into the array
    std::cout.write(acceleration.data(), static_cast<std::streamsize>(acceleration.size()));
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
