// What a call must not leave changed in the host, and what of the host must not change a call.
#pragma once

#include <c10/util/Exception.h>

#include <cfenv>
#include <vector>

namespace hpcs {

/// While one lives: no floating-point exception traps, rounding is to nearest, subnormal numbers are kept, torch uses
/// `num_threads` threads, computes in the types of the artifact, and its warnings are swallowed. Then all is as it was,
/// the exception flags included.
///
/// Floating-point state belongs to a thread, so that of the OpenMP threads is set and restored in each of them; they
/// are the same before and after, since an OpenMP runtime keeps its threads for teams of the same size.
class Surroundings {
  public:
    explicit Surroundings(int num_threads);
    ~Surroundings();
    Surroundings(const Surroundings&) = delete;
    Surroundings& operator=(const Surroundings&) = delete;

  private:
    struct Silence final : c10::WarningHandler {
        void process(const c10::Warning&) override {}
    };

    /// A host that uses torch itself may have mixed precision switched on, which keeps 8 bits of each number.
    class NoAutocast {
      public:
        NoAutocast();
        ~NoAutocast();

      private:
        bool cpu_, cuda_;
    };

    std::fenv_t host_state_;
    std::vector<std::fenv_t> states_of_team_;  // of the OpenMP threads but this one
    int host_threads_, host_dynamic_;
    int host_mkl_threads_ = 0;
    NoAutocast no_autocast_;
    Silence silence_;
    c10::WarningUtils::WarningHandlerGuard no_warnings_{&silence_};
};

}  // namespace hpcs
