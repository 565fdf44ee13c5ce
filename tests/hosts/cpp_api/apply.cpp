// apply_cpp MODEL float32|float64 MODE: cases from the standard input, results to the standard output.
//
// A case is two or three int64, then the arrays. Modes grid, grid-in-place and grid-ghosts: nx, ny, velocity (2, nx, ny); the
// last one keeps them as solvers often do, the component running fastest, with a layer of ghost cells around. Modes
// box and box-in-place: nx, ny, nz, velocity (3, nx, ny, nz). Mode pointwise: n, number of gradient components, velocity
// gradient (n, components), filter width (n). To the standard error go "opened", the failures, and at the end the
// counts.
#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "hpcsurrogate.hpp"

namespace {

template <class Item>
std::vector<Item> read(std::int64_t count) {
    std::vector<Item> items(static_cast<std::size_t>(count));
    std::cin.read(reinterpret_cast<char*>(items.data()), count * static_cast<std::int64_t>(sizeof(Item)));
    return items;
}

template <class Real>
void write(const std::vector<Real>& items) {
    const auto size = static_cast<std::streamsize>(items.size() * sizeof(Real));
    std::cout.write(reinterpret_cast<const char*>(items.data()), size);
    std::cout.flush();
}

template <class Real>
std::vector<Real> apply_grid(hpcsurrogate::Closure& closure, std::int64_t nx, std::int64_t ny, bool in_place) {
    std::vector<Real> velocity = read<Real>(2 * nx * ny), acceleration(velocity.size());
    std::vector<Real>& result = in_place ? velocity : acceleration;
    closure.apply({velocity.data(), {1, 2, nx, ny}}, {result.data(), {1, 2, nx, ny}});
    return result;
}

template <class Real>
std::vector<Real> apply_box(hpcsurrogate::Closure& closure, std::int64_t nx, std::int64_t ny, bool in_place) {
    const std::int64_t nz = read<std::int64_t>(1)[0];
    std::vector<Real> velocity = read<Real>(3 * nx * ny * nz), acceleration(velocity.size());
    std::vector<Real>& result = in_place ? velocity : acceleration;
    closure.apply({velocity.data(), {1, 3, nx, ny, nz}}, {result.data(), {1, 3, nx, ny, nz}});
    return result;
}

/// Fields [nx + 2][ny + 2][2], of which the inner cells are handed over; the ghost cells must stay as they are.
template <class Real>
std::vector<Real> apply_with_ghosts(hpcsurrogate::Closure& closure, std::int64_t nx, std::int64_t ny) {
    const std::vector<Real> velocity = read<Real>(2 * nx * ny);
    const std::int64_t stride_x = 2 * (ny + 2), whole = (nx + 2) * stride_x;
    const auto place = [&](std::int64_t c, std::int64_t i, std::int64_t j) {
        return static_cast<std::size_t>((i + 1) * stride_x + (j + 1) * 2 + c);
    };
    constexpr Real ghost = 77;
    std::vector<Real> field(static_cast<std::size_t>(whole), ghost), result(velocity.size());
    for (std::int64_t k = 0; k < 2 * nx * ny; ++k)
        field[place(k / (nx * ny), k / ny % nx, k % ny)] = velocity[static_cast<std::size_t>(k)];
    std::vector<Real> acceleration(field.size(), ghost);
    closure.apply({&field[place(0, 0, 0)], {1, 2, nx, ny}, {whole, 1, stride_x, 2}},
                  {&acceleration[place(0, 0, 0)], {1, 2, nx, ny}, {whole, 1, stride_x, 2}});
    for (std::int64_t k = 0; k < 2 * nx * ny; ++k) {
        Real& value = acceleration[place(k / (nx * ny), k / ny % nx, k % ny)];
        result[static_cast<std::size_t>(k)] = value;
        value = ghost;
    }
    if (acceleration != std::vector<Real>(field.size(), ghost))
        std::cerr << "a ghost cell was written\n";
    return result;
}

template <class Real>
std::vector<Real> apply_pointwise(hpcsurrogate::Closure& closure, std::int64_t n, std::int64_t components) {
    const std::vector<Real> gradient = read<Real>(n * components), width = read<Real>(n);
    const std::int64_t stress_components = components == 4 ? 3 : 6;
    std::vector<Real> stress(static_cast<std::size_t>(n * stress_components));
    closure.apply({{gradient.data(), {n, components}}, {width.data(), {n}}},
                  {stress.data(), {n, stress_components}});
    return stress;
}

template <class Real>
void apply_all(hpcsurrogate::Closure& closure, const std::string& mode) {
    while (true) {
        const std::vector<std::int64_t> sizes = read<std::int64_t>(2);
        if (!std::cin)
            return;
        try {
            if (mode == "pointwise")
                write(apply_pointwise<Real>(closure, sizes[0], sizes[1]));
            else if (mode.rfind("box", 0) == 0)
                write(apply_box<Real>(closure, sizes[0], sizes[1], mode == "box-in-place"));
            else if (mode == "grid-ghosts")
                write(apply_with_ghosts<Real>(closure, sizes[0], sizes[1]));
            else
                write(apply_grid<Real>(closure, sizes[0], sizes[1], mode == "grid-in-place"));
        } catch (const hpcsurrogate::RecoverableError& error) {
            std::cerr << "recoverable " << error.status() << " " << error.counts().outside << " " << error.what()
                      << "\n";
        }
    }
}

}  // namespace

int main(int, char** arguments) {
    const std::string dtype = arguments[2], mode = arguments[3];
    try {
        hpcsurrogate::Closure closure(arguments[1]);
        std::cerr << "opened" << std::endl;
        if (dtype == "float32")
            apply_all<float>(closure, mode);
        else
            apply_all<double>(closure, mode);
        const hpcsurrogate::Counts counts = closure.total_counts();
        std::cerr << "counts " << counts.calls << " " << counts.cells << " " << counts.outside << " "
                  << counts.not_finite << " " << counts.failed << "\n";
    } catch (const hpcsurrogate::FatalError& error) {
        std::cerr << "fatal " << error.status() << " " << error.what() << "\n";
        return 1;
    }
}
