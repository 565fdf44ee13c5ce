// Exact pressure projection: the discrete Poisson equation in Fourier space.
#pragma once

#include "field.h"
#include "slab.h"

namespace les {

class Projection {
  public:
    /// Throws std::invalid_argument unless nx and ny are powers of two.
    Projection(const Slab& slab, double hx, double hy);

    /// Take out the gradient part: the discrete divergence vanishes to round-off, the mean stays. Needs one ghost cell.
    void apply(Field& vector);

  private:
    void solve_poisson();

    const Slab& slab_;
    const double hx_, hy_;
    Field pressure_;
    Line by_rows_, by_columns_;
    const Line roots_x_, roots_y_;
};

}  // namespace les
