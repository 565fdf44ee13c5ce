#include "projection.h"

#include <cmath>
#include <stdexcept>
#include <utility>

namespace les {
namespace {

const double pi = std::acos(-1.0);

/// exp(-2 pi i k / n) for k < n / 2.
Line roots_of_unity(int n) {
    if (n < 2 || n & (n - 1))
        throw std::invalid_argument("cells: give powers of two");
    Line roots(n / 2);
    for (int k = 0; k < n / 2; ++k) {
        roots[k] = {std::cos(2 * pi * k / n), -std::sin(2 * pi * k / n)};
    }
    return roots;
}

/// Discrete Fourier transform of one line in place, radix 2; inverse without the factor 1 / n.
void transform(std::complex<double>* line, int n, const Line& roots, bool inverse) {
    for (int i = 1, reversed = 0; i < n; ++i) {
        int bit = n >> 1;
        for (; reversed & bit; bit >>= 1)
            reversed ^= bit;
        reversed |= bit;
        if (i < reversed)
            std::swap(line[i], line[reversed]);
    }
    for (int half = 1; half < n; half *= 2) {
        for (int start = 0; start < n; start += 2 * half) {
            for (int k = 0; k < half; ++k) {
                const std::complex<double> root = roots[k * (n / (2 * half))];
                const std::complex<double> odd = line[start + half + k] * (inverse ? std::conj(root) : root);
                const std::complex<double> even = line[start + k];
                line[start + k] = even + odd;
                line[start + half + k] = even - odd;
            }
        }
    }
}

/// Symbol of the second difference along one axis, not positive.
double second_difference(int wave, int n, double h) {
    const double sine = 2 / h * std::sin(pi * wave / n);
    return -sine * sine;
}

}  // namespace

Projection::Projection(const Slab& slab, double hx, double hy)
    : slab_(slab), hx_(hx), hy_(hy), pressure_(1, slab.rows, slab.ny, 1),
      by_rows_(static_cast<std::size_t>(slab.rows) * slab.ny), by_columns_(by_rows_.size()),
      roots_x_(roots_of_unity(slab.nx)), roots_y_(roots_of_unity(slab.ny)) {}

void Projection::apply(Field& vector) {
    slab_.exchange(vector);
    for (int i = 0; i < slab_.rows; ++i) {
        for (int j = 0; j < slab_.ny; ++j) {
            by_rows_[i * slab_.ny + j] = (vector(0, i, j) - vector(0, i - 1, j)) / hx_ +
                                         (vector(1, i, j) - vector(1, i, j - 1)) / hy_;
        }
    }
    solve_poisson();
    slab_.exchange(pressure_);
    for (int i = 0; i < slab_.rows; ++i) {
        for (int j = 0; j < slab_.ny; ++j) {
            vector(0, i, j) -= (pressure_(0, i + 1, j) - pressure_(0, i, j)) / hx_;
            vector(1, i, j) -= (pressure_(0, i, j + 1) - pressure_(0, i, j)) / hy_;
        }
    }
}

void Projection::solve_poisson() {
    const int nx = slab_.nx, ny = slab_.ny;
    for (int i = 0; i < slab_.rows; ++i)
        transform(&by_rows_[static_cast<std::size_t>(i) * ny], ny, roots_y_, false);
    slab_.transpose(by_rows_, by_columns_);
    for (int column = 0; column < slab_.columns; ++column) {
        auto* line = &by_columns_[static_cast<std::size_t>(column) * nx];
        const int wave_y = slab_.rank * slab_.columns + column;
        transform(line, nx, roots_x_, false);
        for (int wave_x = 0; wave_x < nx; ++wave_x) {
            const double symbol = second_difference(wave_x, nx, hx_) + second_difference(wave_y, ny, hy_);
            line[wave_x] = wave_x || wave_y ? line[wave_x] / (symbol * nx * ny) : 0.0;
        }
        transform(line, nx, roots_x_, true);
    }
    slab_.transpose_back(by_columns_, by_rows_);
    for (int i = 0; i < slab_.rows; ++i) {
        auto* line = &by_rows_[static_cast<std::size_t>(i) * ny];
        transform(line, ny, roots_y_, true);
        for (int j = 0; j < ny; ++j)
            pressure_(0, i, j) = line[j].real();
    }
}

}  // namespace les
