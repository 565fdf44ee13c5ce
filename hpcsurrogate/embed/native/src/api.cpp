// The C ABI: nothing but success or a status leaves these functions.
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#pragma GCC visibility push(default)
#include "hpcsurrogate.h"
#pragma GCC visibility pop

#include "closure.h"
#include "declaration.h"
#include "surroundings.h"

struct hpcs_closure {
    hpcs::Closure closure;
};

namespace {

/// The line of this thread's last failure. Without memory for a line there is one that needs none.
class LastError {
  public:
    void clear() noexcept { text_ = ""; }

    int set(int status, const char* message) noexcept {
        try {
            stored_ = message;
            // One line, whatever a library has to say.
            stored_.resize(std::min(stored_.find('\n'), stored_.size()));
            text_ = stored_.c_str();
        } catch (...) {
            text_ = "out of memory";
        }
        return status;
    }

    const char* text() const noexcept { return text_; }

  private:
    std::string stored_;
    const char* text_ = "";
};

thread_local LastError last_error;

/// torch has its own words for memory that is not there, also where it passes an exception through its interpreter.
int status_of(const std::string& message) {
    for (const char* words : {"allocate memory", "bad_alloc", "out of memory"})
        if (message.find(words) != std::string::npos)
            return HPCS_OUT_OF_MEMORY;
    return HPCS_INTERNAL;
}

/// `who` has thrown this.
int fail(const char* who, const std::string& message) {
    const int status = status_of(message);
    if (status == HPCS_OUT_OF_MEMORY)
        return last_error.set(status, "out of memory; use smaller subdomains, or cut what else the host holds");
    // The last line is the cause; above it the interpreter of torch says where in the network it was.
    const auto end = message.find_last_not_of(" \n") + 1;
    const auto start = message.rfind('\n', end == 0 ? 0 : end - 1);
    const auto first = start == std::string::npos ? 0 : start + 1;
    const std::string cause = message.substr(first, end - first);
    const std::string remedy = "; see what `hpcsurrogate verify` says of the file";
    return last_error.set(status, (who + (" failed: " + cause) + remedy).c_str());
}

/// Do `work`, which returns a status; what it throws becomes one, with a line that says `who` failed.
template <class Work>
int without_exceptions(Work&& work, const char* who = "the network") noexcept {
    last_error.clear();
    try {
        try {
            return work();
        } catch (const hpcs::Error& error) {
            return last_error.set(error.status, error.what());
        } catch (const c10::Error& error) {
            return fail(who, error.what_without_backtrace());
        } catch (const std::exception& error) {
            return fail(who, error.what());
        }
    } catch (const std::exception&) {  // of handling the first one
        return last_error.set(HPCS_OUT_OF_MEMORY, "out of memory");
    } catch (...) {
        return last_error.set(HPCS_INTERNAL, "an exception that is none of C++'s own");
    }
}

/// Free one large block. glibc maps each array above a threshold anew and gives it back, so that every page of a
/// network's temporary arrays faults in every call, which can double its time; but it raises that threshold to the
/// largest block, of up to 32 MiB, that the process has freed. No setting is changed: those of the host hold.
void let_malloc_keep_freed_memory() {
    constexpr std::size_t just_below_the_most = (std::size_t{32} << 20) - (std::size_t{64} << 10);
    void* volatile block = std::malloc(just_below_the_most);  // volatile: or the compiler would leave both calls out
    std::free(block);
}

int missing(const char* what) { throw hpcs::Error(HPCS_BAD_ARGUMENT, std::string(what) + " is NULL"); }

}  // namespace

int hpcs_is_recoverable(int status) { return status >= HPCS_OK && status <= HPCS_OUT_OF_MEMORY; }

const char* hpcs_last_error(void) { return last_error.text(); }

void hpcs_set_defaults(hpcs_options* options, size_t struct_size) {
    hpcs_options defaults{};
    defaults.struct_size = struct_size;
    defaults.num_threads = 1;
    defaults.most_fallback = 0.5;
    if (options != nullptr)
        std::memcpy(options, &defaults, std::min(struct_size, sizeof defaults));
}

int hpcs_open(const char* path, const hpcs_options* options, hpcs_closure** closure) {
    const auto open = [&] {
        if (closure == nullptr)
            missing("hpcs_open: closure");
        *closure = nullptr;
        if (path == nullptr)
            missing("hpcs_open: path");
        hpcs_options chosen;
        hpcs_default_options(&chosen);
        if (options != nullptr) {
            hpcs::require_sound(*options);
            chosen = *options;
        }
        let_malloc_keep_freed_memory();
        const hpcs::Surroundings surroundings(chosen.num_threads);
        *closure = new hpcs_closure{hpcs::Closure(path, chosen)};
        return HPCS_OK;
    };
    return without_exceptions(open, path == nullptr ? "hpcs_open" : path);
}

int hpcs_close(hpcs_closure* closure) {
    return without_exceptions([&] {
        delete closure;
        return HPCS_OK;
    });
}

const char* hpcs_fact(const hpcs_closure* closure, const char* key) {
    const char* fact = nullptr;
    without_exceptions([&] {
        if (closure != nullptr && key != nullptr)
            fact = closure->closure.fact(key);
        return HPCS_OK;
    });
    return fact;
}

const char* hpcs_metadata(const hpcs_closure* closure) {
    last_error.clear();
    return closure == nullptr ? nullptr : closure->closure.metadata();
}

int hpcs_apply(hpcs_closure* closure, int num_inputs, const hpcs_array* inputs, const hpcs_array* output,
               hpcs_counts* counts) {
    return without_exceptions([&] {
        if (counts != nullptr)
            *counts = hpcs_counts{};
        if (closure == nullptr)
            missing("hpcs_apply: closure");
        const hpcs::Surroundings surroundings(closure->closure.num_threads());
        const hpcs_counts of_this_call = closure->closure.apply(num_inputs, inputs, output);
        if (counts != nullptr)
            *counts = of_this_call;
        closure->closure.require_few_fallbacks(of_this_call);
        return HPCS_OK;
    });
}

int hpcs_total_counts(const hpcs_closure* closure, hpcs_counts* counts) {
    return without_exceptions([&] {
        if (closure == nullptr)
            missing("hpcs_total_counts: closure");
        if (counts == nullptr)
            missing("hpcs_total_counts: counts");
        *counts = closure->closure.total();
        return HPCS_OK;
    });
}
