#include "surroundings.h"

#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <omp.h>

/// Of the MKL in LibTorch, which does not ask OpenMP how many threads to use if the host has set MKL_NUM_THREADS or
/// torch's own number. Returns the number before. NULL in a LibTorch without MKL.
extern "C" __attribute__((weak)) int MKL_Set_Num_Threads_Local(int num_threads);

namespace hpcs {

Surroundings::NoAutocast::NoAutocast()
    : cpu_(at::autocast::is_autocast_enabled(at::kCPU)), cuda_(at::autocast::is_autocast_enabled(at::kCUDA)) {
    at::autocast::set_autocast_enabled(at::kCPU, false);
    at::autocast::set_autocast_enabled(at::kCUDA, false);
}

Surroundings::NoAutocast::~NoAutocast() {
    at::autocast::set_autocast_enabled(at::kCPU, cpu_);
    at::autocast::set_autocast_enabled(at::kCUDA, cuda_);
}

Surroundings::Surroundings(int num_threads) {
    std::fegetenv(&host_state_);
    if (num_threads > 1)  // first, since there may be no memory and nothing must be changed then
        states_of_team_.assign(num_threads, host_state_);
    host_threads_ = omp_get_max_threads();
    host_dynamic_ = omp_get_dynamic();
    // In the first parallel call of a thread torch sets the number itself; let it do so now rather than later.
    at::get_num_threads();
    omp_set_num_threads(num_threads);
    omp_set_dynamic(0);  // or the teams of a call might have threads that the team here has not
    if (MKL_Set_Num_Threads_Local != nullptr)
        host_mkl_threads_ = MKL_Set_Num_Threads_Local(num_threads);
    if (!states_of_team_.empty()) {
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
    if (MKL_Set_Num_Threads_Local != nullptr)
        MKL_Set_Num_Threads_Local(host_mkl_threads_);
    omp_set_dynamic(host_dynamic_);
    omp_set_num_threads(host_threads_);
    std::fesetenv(&host_state_);
}

}  // namespace hpcs
