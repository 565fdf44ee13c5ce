#include "surroundings.h"

#include <ATen/Parallel.h>
#include <omp.h>

namespace hpcs {

Surroundings::Surroundings(int num_threads) {
    std::fegetenv(&host_state_);
    host_threads_ = omp_get_max_threads();
    // In the first parallel call of a thread torch sets the number itself; let it do so now rather than later.
    at::get_num_threads();
    omp_set_num_threads(num_threads);
    if (num_threads > 1) {
        states_of_team_.resize(num_threads);
#pragma omp parallel
        {
            std::fegetenv(&states_of_team_[omp_get_thread_num()]);
            std::fesetenv(FE_DFL_ENV);
        }
    }
    std::fesetenv(FE_DFL_ENV);
}

Surroundings::~Surroundings() {
    if (!states_of_team_.empty()) {
#pragma omp parallel
        std::fesetenv(&states_of_team_[omp_get_thread_num()]);
    }
    omp_set_num_threads(host_threads_);
    std::fesetenv(&host_state_);
}

}  // namespace hpcs
