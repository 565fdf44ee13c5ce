#include "closures.h"

#include <algorithm>
#include <cmath>
#include <hpcsurrogate.hpp>
#include <stdexcept>

namespace les {
namespace {

class NoClosure : public Closure {
  public:
    void acceleration(Field&, Field& result) override { std::fill_n(result.data(), result.size(), 0.0); }
};

/// tau_ij = -2 (C Delta)^2 |S| S_ij, second-order differences; diagonal at centres, xy at corners ((i+1) hx, (j+1) hy).
class Smagorinsky : public Closure {
  public:
    Smagorinsky(const Settings& settings, const Slab& slab)
        : hx_(settings.hx()), hy_(settings.hy()),
          mixing_length_squared_(std::pow(settings.constant * settings.filter_width, 2)),
          shear_(1, slab.rows, slab.ny, 2), eddy_viscosity_(shear_), xx_(shear_), xy_(shear_), yy_(shear_) {}

    int ghosts() const override { return 2; }

    void acceleration(Field& velocity, Field& result) override {
        find_eddy_viscosity(velocity);
        find_stress(velocity);
        for (int i = 0; i < result.rows; ++i) {
            for (int j = 0; j < result.columns; ++j) {
                result(0, i, j) =
                    -((xx_(0, i + 1, j) - xx_(0, i, j)) / hx_ + (xy_(0, i, j) - xy_(0, i, j - 1)) / hy_);
                result(1, i, j) =
                    -((xy_(0, i, j) - xy_(0, i - 1, j)) / hx_ + (yy_(0, i, j + 1) - yy_(0, i, j)) / hy_);
            }
        }
    }

  private:
    double ux(const Field& velocity, int i, int j) const { return (velocity(0, i, j) - velocity(0, i - 1, j)) / hx_; }
    double vy(const Field& velocity, int i, int j) const { return (velocity(1, i, j) - velocity(1, i, j - 1)) / hy_; }

    void find_eddy_viscosity(const Field& velocity) {
        for (int i = -2; i <= velocity.rows; ++i)
            for (int j = -2; j <= velocity.columns; ++j)
                shear_(0, i, j) = (velocity(0, i, j + 1) - velocity(0, i, j)) / hy_ +
                                  (velocity(1, i + 1, j) - velocity(1, i, j)) / hx_;
        const auto square = [&](int i, int j) { return shear_(0, i, j) * shear_(0, i, j); };
        for (int i = -1; i <= velocity.rows; ++i) {
            for (int j = -1; j <= velocity.columns; ++j) {
                const double xx = ux(velocity, i, j), yy = vy(velocity, i, j);
                const double at_corners = square(i, j) + square(i - 1, j) + (square(i, j - 1) + square(i - 1, j - 1));
                eddy_viscosity_(0, i, j) =
                    mixing_length_squared_ * std::sqrt(2 * (xx * xx + yy * yy) + 0.25 * at_corners);
            }
        }
    }

    void find_stress(const Field& velocity) {
        for (int i = 0; i <= velocity.rows; ++i) {
            for (int j = 0; j <= velocity.columns; ++j) {
                xx_(0, i, j) = -2 * eddy_viscosity_(0, i, j) * ux(velocity, i, j);
                yy_(0, i, j) = -2 * eddy_viscosity_(0, i, j) * vy(velocity, i, j);
            }
        }
        for (int i = -1; i < velocity.rows; ++i) {
            for (int j = -1; j < velocity.columns; ++j) {
                const double at_corner = 0.25 * (eddy_viscosity_(0, i, j) + eddy_viscosity_(0, i + 1, j) +
                                                 (eddy_viscosity_(0, i, j + 1) + eddy_viscosity_(0, i + 1, j + 1)));
                xy_(0, i, j) = -at_corner * shear_(0, i, j);
            }
        }
    }

    const double hx_, hy_, mixing_length_squared_;
    Field shear_, eddy_viscosity_, xx_, xy_, yy_;
};

/// An exported closure. The slab is whole and periodic along y and has the neighbours' cells along x.
class Artifact : public Closure {
  public:
    Artifact(const Settings& settings, const Slab& slab)
        : halo_(slab.ranks > 1 ? halo_of(settings.model) : 0), closure_(settings.model, options(settings, halo_)) {}

    int ghosts() const override { return std::max(1, halo_); }

    void acceleration(Field& velocity, Field& result) override {
        const std::int64_t handed_over = velocity.rows + 2 * halo_, rows = velocity.rows, columns = velocity.columns;
        closure_.apply({&velocity(0, -halo_, 0),
                        {1, 2, handed_over, columns},
                        {0, velocity.component_length(), velocity.row_length(), 1}},
                       {&result(0, 0, 0),
                        {1, 2, rows, columns},
                        {result.component_length() * 2, result.component_length(), result.row_length(), 1}});
    }

    std::array<std::int64_t, 4> counts() const override {
        const auto total = closure_.total_counts();
        return {total.cells, total.outside, total.not_finite, total.failed};
    }

  private:
    static int halo_of(const std::string& model) {
        const std::string halo = hpcsurrogate::Closure(model).fact("halo").value();
        if (halo == "whole field")
            throw std::invalid_argument(model + ": needs the whole field, so run on one rank");
        return std::stoi(halo);
    }

    static hpcsurrogate::Options options(const Settings& settings, int halo) {
        hpcsurrogate::Options options;
        options.layout = "staggered";
        options.input_units = "m/s";
        options.output_units = "m/s^2";
        options.grid_spacing[0] = settings.hx();
        options.grid_spacing[1] = settings.hy();
        options.filter_width = settings.filter_width;
        options.halo[0] = halo;
        options.most_fallback = 1;  // this solver only counts
        return options;
    }

    const int halo_;
    hpcsurrogate::Closure closure_;
};

}  // namespace

std::unique_ptr<Closure> make_closure(const Settings& settings, const Slab& slab) {
    if (settings.closure == "none")
        return std::make_unique<NoClosure>();
    if (settings.closure == "smagorinsky")
        return std::make_unique<Smagorinsky>(settings, slab);
    if (settings.closure == "artifact")
        return std::make_unique<Artifact>(settings, slab);
    throw std::invalid_argument("closure: " + settings.closure + " is none of none, smagorinsky, artifact");
}

}  // namespace les
