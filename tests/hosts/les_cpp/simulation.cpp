#include "simulation.h"

namespace les {

Simulation::Simulation(const Settings& settings, const Slab& slab)
    : settings_(settings), slab_(slab), closure_(make_closure(settings, slab)),
      projection_(slab, settings.hx(), settings.hy()), velocity_(2, slab.rows, slab.ny, closure_->ghosts()),
      stage_(velocity_), force_(velocity_), rates_(4, velocity_) {
    slab.read(settings.velocity, velocity_);
    slab.read(settings.force, force_);
}

void Simulation::step() {
    const double dt = settings_.time_step, part_of_step[] = {0, dt / 2, dt / 2, dt};
    find_rate(velocity_, rates_[0]);
    for (int stage = 1; stage < 4; ++stage) {
        for (std::size_t n = 0; n < velocity_.size(); ++n)
            stage_.data()[n] = velocity_.data()[n] + part_of_step[stage] * rates_[stage - 1].data()[n];
        find_rate(stage_, rates_[stage]);
    }
    for (std::size_t n = 0; n < velocity_.size(); ++n) {
        const double outer = rates_[0].data()[n] + rates_[3].data()[n];
        const double inner = rates_[1].data()[n] + rates_[2].data()[n];
        velocity_.data()[n] += dt / 6 * (outer + 2 * inner);
    }
}

double Simulation::energy() {
    std::vector<double> of_rows(slab_.rows, 0.0);
    for (int i = 0; i < slab_.rows; ++i)
        for (int j = 0; j < slab_.ny; ++j)
            of_rows[i] += (velocity_(0, i, j) * velocity_(0, i, j) + velocity_(1, i, j) * velocity_(1, i, j)) / 2;
    return slab_.sum_of_rows(of_rows) / (static_cast<double>(slab_.nx) * slab_.ny);
}

std::vector<std::int64_t> Simulation::counts() const {
    const auto mine = closure_->counts();
    return slab_.sum({mine.begin(), mine.end()});
}

void Simulation::find_rate(Field& velocity, Field& rate) {
    slab_.exchange(velocity);
    closure_->acceleration(velocity, rate);
    add_advection(velocity, rate);
    projection_.apply(rate);
    add_linear_terms(velocity, rate);
}

void Simulation::add_advection(const Field& velocity, Field& rate) const {
    // Four times the fluxes: both factors are sums of two neighbours instead of means.
    const auto xx = [&](int i, int j) {
        const double u = velocity(0, i - 1, j) + velocity(0, i, j);
        return u * u;
    };
    const auto yy = [&](int i, int j) {
        const double v = velocity(1, i, j - 1) + velocity(1, i, j);
        return v * v;
    };
    const auto xy = [&](int i, int j) {
        return (velocity(0, i, j) + velocity(0, i, j + 1)) * (velocity(1, i, j) + velocity(1, i + 1, j));
    };
    const double scale_x = -1 / (4 * settings_.hx()), scale_y = -1 / (4 * settings_.hy());
    for (int i = 0; i < slab_.rows; ++i) {
        for (int j = 0; j < slab_.ny; ++j) {
            rate(0, i, j) += scale_x * (xx(i + 1, j) - xx(i, j)) + scale_y * (xy(i, j) - xy(i, j - 1));
            rate(1, i, j) += scale_y * (yy(i, j + 1) - yy(i, j)) + scale_x * (xy(i, j) - xy(i - 1, j));
        }
    }
}

void Simulation::add_linear_terms(const Field& velocity, Field& rate) const {
    const double per_x = settings_.viscosity / (settings_.hx() * settings_.hx());
    const double per_y = settings_.viscosity / (settings_.hy() * settings_.hy());
    for (int c = 0; c < 2; ++c) {
        for (int i = 0; i < slab_.rows; ++i) {
            for (int j = 0; j < slab_.ny; ++j) {
                const double here = velocity(c, i, j);
                rate(c, i, j) += per_x * (velocity(c, i + 1, j) - 2 * here + velocity(c, i - 1, j)) +
                                 per_y * (velocity(c, i, j + 1) - 2 * here + velocity(c, i, j - 1)) -
                                 settings_.drag * here + force_(c, i, j);
            }
        }
    }
}

}  // namespace les
