/* Call a closure on random arrays while every floating-point exception traps, and look what each call has changed.
 *
 *     random_inputs ARTIFACT CALLS SEED THREADS
 *
 * Leaves with 1 and a line at the first output that is not finite, the first state that is not as it was, or a status
 * that must not come; else prints what it saw. A trap would end it with SIGFPE.
 */
#define _GNU_SOURCE
#include <fenv.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

#include "hpcsurrogate.h"

#define MOST_CELLS 16384
#define MOST_COMPONENTS 4

static uint64_t random_state;

static uint64_t random_bits(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* A number of any kind: half of them are those that solvers meet when something went wrong. */
static float random_number(int is_tame) {
    static const float odd[] = {0.0f,  -0.0f, 1e38f,  -1e38f, 3.4028235e38f, 1e20f, 1e-38f,
                                1e-45f, -1e-45f, 1e-40f, NAN,  INFINITY,      -INFINITY};
    const uint64_t bits = random_bits();
    const float tame = (float)((int64_t)(bits >> 40) - (1 << 23)) / (float)(1 << 23);
    if (is_tame || bits % 4 >= 2)
        return tame;
    if (bits % 4 == 1)
        return odd[(bits >> 8) % (sizeof odd / sizeof odd[0])];
    const uint32_t pattern = (uint32_t)(bits >> 32);
    float number;
    memcpy(&number, &pattern, sizeof number);
    return number;
}

/* An array without gaps; memory is that of the caller, large enough for doubles. */
static hpcs_array array_of(void *data, int dtype, int num_dims, const int64_t *shape) {
    hpcs_array array = {data, dtype, num_dims, {0}, {0}};
    int64_t stride = 1;
    for (int axis = num_dims - 1; axis >= 0; --axis) {
        array.shape[axis] = shape[axis];
        array.strides[axis] = stride;
        stride *= shape[axis];
    }
    return array;
}

static int64_t length_of(const hpcs_array *array) {
    int64_t length = 1;
    for (int axis = 0; axis < array->num_dims; ++axis)
        length *= array->shape[axis];
    return length;
}

/* A team of the host whose threads have their traps on; said to be so again at the end. */
static int team_with_traps(int team, int enable) {
    int num_trapping = 0;
#pragma omp parallel num_threads(team) reduction(+ : num_trapping)
    {
        if (enable && omp_get_thread_num() > 0) {
            fedisableexcept(FE_ALL_EXCEPT);
            feenableexcept(FE_DIVBYZERO | FE_INVALID);
        }
        num_trapping += fegetexcept() == (FE_DIVBYZERO | FE_INVALID);
    }
    return num_trapping;
}

static void fill(const hpcs_array *array, int one_in) {
    const int64_t length = length_of(array);
    for (int64_t i = 0; i < length; ++i) {
        const float number = random_number(one_in == 0 || random_bits() % one_in != 0);
        if (array->dtype == HPCS_FLOAT32)
            ((float *)array->data)[i] = number;
        else
            ((double *)array->data)[i] = number;
    }
}

static int is_finite(const hpcs_array *array) {
    const int64_t length = length_of(array);
    for (int64_t i = 0; i < length; ++i)
        if (!isfinite(array->dtype == HPCS_FLOAT32 ? ((float *)array->data)[i] : ((double *)array->data)[i]))
            return 0;
    return 1;
}

static void stop(const char *what) {
    printf("%s; last error: %s\n", what, hpcs_last_error());
    exit(1);
}

/* Traps are on in the call and in no line of this program besides. */
static int apply_with_traps(hpcs_closure *closure, int num_inputs, const hpcs_array *inputs, const hpcs_array *output,
                            hpcs_counts *counts) {
    const int host_threads = 1 + (int)(random_bits() % 7);
    omp_set_num_threads(host_threads);
    feclearexcept(FE_ALL_EXCEPT);
    feenableexcept(FE_ALL_EXCEPT);
    const int status = hpcs_apply(closure, num_inputs, inputs, output, counts);
    const int enabled = fegetexcept();
    fedisableexcept(FE_ALL_EXCEPT);
    if (enabled != FE_ALL_EXCEPT)
        stop("the call has changed which exceptions trap");
    if (fetestexcept(FE_ALL_EXCEPT) != 0)
        stop("the call has left a floating-point exception flag");
    if (omp_get_max_threads() != host_threads)
        stop("the call has changed the number of OpenMP threads");
    return status;
}

/* Neither the result nor the host's modes may change when the host rounds upwards and flushes subnormal numbers. */
static void repeat_in_other_modes(hpcs_closure *closure, int num_inputs, const hpcs_array *inputs,
                                  const hpcs_array *output) {
    static double expected[MOST_COMPONENTS * MOST_CELLS];
    const size_t num_bytes = (size_t)length_of(output) * (output->dtype == HPCS_FLOAT32 ? 4 : 8);
    memcpy(expected, output->data, num_bytes);
    fenv_t usual;
    fegetenv(&usual);
    fesetround(FE_UPWARD);
    feraiseexcept(FE_OVERFLOW);
#ifdef __SSE__
    _mm_setcsr(_mm_getcsr() | 0x8040);
    const unsigned modes = _mm_getcsr();
#endif
    hpcs_apply(closure, num_inputs, inputs, output, NULL);
    const int kept = fegetround() == FE_UPWARD && fetestexcept(FE_ALL_EXCEPT) == FE_OVERFLOW;
#ifdef __SSE__
    const int kept_modes = _mm_getcsr() == modes;
#else
    const int kept_modes = 1;
#endif
    fesetenv(&usual);
    if (!kept || !kept_modes)
        stop("the call has changed rounding, flags or the treatment of subnormal numbers");
    if (memcmp(expected, output->data, num_bytes) != 0)
        stop("the result depends on the host's rounding or treatment of subnormal numbers");
}

int main(int argc, char **argv) {
    if (argc != 5)
        return 2;
    const long calls = atol(argv[2]);
    random_state = strtoull(argv[3], NULL, 10) * 2654435761u + 1;
    hpcs_options options;
    hpcs_default_options(&options);
    options.num_threads = atoi(argv[4]);
    hpcs_closure *closure = NULL;
    feenableexcept(FE_ALL_EXCEPT);
    const int opened = hpcs_open(argv[1], &options, &closure);
    fedisableexcept(FE_ALL_EXCEPT);
    if (opened != HPCS_OK)
        stop("not opened");

    const int team = options.num_threads == 1 ? 3 : options.num_threads;
    team_with_traps(team, 1);
    const int is_grid = strcmp(hpcs_fact(closure, "kind"), "grid") == 0;
    static double first[MOST_COMPONENTS * MOST_CELLS], second[MOST_CELLS], result[MOST_COMPONENTS * MOST_CELLS];
    long too_much = 0, repeats = 0;
    hpcs_counts total = {0, 0, 0, 0, 0}, counts;
    for (long call = 0; call < calls; ++call) {
        /* Tame in one call of four, with one odd number in about forty in the next, and so on. */
        const int one_in = (call % 4 == 0) ? 0 : (call % 4 == 1) ? 40 : (call % 4 == 2) ? 300 : 1;
        /* Of some arrays the parts are large enough to be worth a thread. */
        const int64_t least = call % 64 == 63 ? 120 : 8;
        const int64_t nx = least + (int64_t)(random_bits() % 5), ny = least + (int64_t)(random_bits() % 5);
        const int64_t field[] = {1, 2, nx, ny}, gradient[] = {nx * ny, 4}, width[] = {nx * ny}, stress[] = {nx * ny, 3};
        const int dtype = random_bits() % 8 == 0 ? HPCS_FLOAT64 : HPCS_FLOAT32;
        hpcs_array inputs[2], output;
        inputs[0] = is_grid ? array_of(first, dtype, 4, field) : array_of(first, dtype, 2, gradient);
        inputs[1] = array_of(second, dtype, 1, width);
        output = is_grid ? array_of(result, dtype, 4, field) : array_of(result, dtype, 2, stress);
        fill(&inputs[0], one_in);
        fill(&inputs[1], one_in);
        const int status = apply_with_traps(closure, is_grid ? 1 : 2, inputs, &output, &counts);
        const int64_t fallen = counts.outside + counts.not_finite + counts.failed;
        if (status != HPCS_OK && status != HPCS_TOO_MUCH_FALLBACK)
            stop("an unexpected status");
        if (!is_finite(&output))
            stop("an output that is not finite");
        if (counts.cells != nx * ny || fallen < 0 || fallen > counts.cells ||
            (status == HPCS_TOO_MUCH_FALLBACK) != (2 * fallen > counts.cells))
            stop("counts that cannot be");
        if (call % 16 < 4)
            repeat_in_other_modes(closure, is_grid ? 1 : 2, inputs, &output), ++repeats;
        too_much += status == HPCS_TOO_MUCH_FALLBACK;
        total.outside += counts.outside;
        total.not_finite += counts.not_finite;
        total.failed += counts.failed;
        total.cells += counts.cells;
    }
    if (team_with_traps(team, 0) != team - 1)
        stop("the calls have changed what traps in OpenMP threads of the host");
    if (hpcs_total_counts(closure, &counts) != HPCS_OK || counts.calls != calls + repeats || counts.cells < total.cells)
        stop("the total does not hold all calls");
    printf("calls %ld too_much %ld cells %ld outside %ld not_finite %ld failed %ld\n", calls, too_much,
           (long)total.cells, (long)total.outside, (long)total.not_finite, (long)total.failed);
    return hpcs_close(closure) == HPCS_OK ? 0 : 1;
}
