/* hpcsurrogate: call an exported closure from C, C++, Fortran or anything that calls C.
 *
 *     hpcs_options options;
 *     hpcs_default_options(&options);
 *     hpcs_closure *closure = NULL;
 *     if (hpcs_open("run/model.pt", &options, &closure) != HPCS_OK)
 *         stop(hpcs_last_error());
 *     ... hpcs_apply(closure, 1, &velocity, &acceleration, NULL) at every right-hand side ...
 *     hpcs_close(closure);
 *
 * What holds for every function: no exception leaves it, it never ends the process and prints nothing. Floating-point
 * exceptions that the host has enabled do not fire in it, and the floating-point environment, the flags included, and
 * the number of OpenMP threads are afterwards what they were before (tests/hosts/test_surroundings.py).
 *
 * One closure may be used by several threads at the same time; only hpcs_close must be the last.
 */
#ifndef HPCSURROGATE_H
#define HPCSURROGATE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- what a call returns ----------------------------------------------------------------------------------------- */

/* After a recoverable failure the closure is as good as before, and a host may cut its time step or go on without
 * it. After a fatal one the host should stop. hpcs_last_error says in one line what went wrong and what to do. */
enum {
    HPCS_OK = 0,

    HPCS_TOO_MUCH_FALLBACK = 1, /* recoverable: the output is written and finite, but more than
                                   options.most_fallback of the cells got the classical closure */
    HPCS_BAD_ARGUMENT = 2,      /* recoverable: NULL, shape, type or stride; nothing was written */
    HPCS_OUT_OF_MEMORY = 3,     /* recoverable: nothing was written */

    HPCS_BAD_MODEL = 10, /* fatal: the file is missing, damaged, refused, or does not reproduce its golden vectors */
    HPCS_MISFIT = 11,    /* fatal: not for this host: filter width, spacing, units, layout, halo or device */
    HPCS_INTERNAL = 12   /* fatal: a fault of this library or of the network */
};

/* 1 for HPCS_OK and the recoverable ones, else 0. */
int hpcs_is_recoverable(int status);

/* The failure of this thread's last call, or "" if it was successful. Good until this thread's next call. */
const char *hpcs_last_error(void);

/* --- open and close ---------------------------------------------------------------------------------------------- */

typedef struct hpcs_closure hpcs_closure;

enum { HPCS_CPU = 0, HPCS_CUDA = 1 };

typedef struct {
    size_t struct_size; /* set by hpcs_default_options; says which version of this header the host has */

    int unguarded;        /* 0; 1: the network alone, no guard, no classical closure */
    int allow_compiled;   /* 0; 1: open a .pt2 too, which is native code and can do whatever a program can */
    int num_threads;      /* 1: OpenMP threads that a call may use, at most 1024. After a call with more than one the
                             process must not fork and call in the child: GNU's OpenMP waits there for threads that
                             the child has not */
    int device;           /* HPCS_CPU: where the network runs and where the arrays lie. HPCS_CUDA: pointers are those
                             of the device, and what the host does with the arrays there must be finished; needs a
                             LibTorch with CUDA. This path is not tested. */
    int device_index;     /* 0 */
    double most_fallback; /* 0.5: hpcs_apply returns HPCS_TOO_MUCH_FALLBACK above this fraction of the cells */

    /* What the host is. hpcs_open refuses an artifact that is for another one. 0 or NULL is not compared. */
    double filter_width;      /* [m] of the filter that the host's fields stand for */
    double grid_spacing[3];   /* [m] */
    const char *layout;       /* "staggered" or "collocated"; of kind grid alone */
    const char *input_units;  /* such as "m/s"; of several inputs, in order, separated by a space */
    const char *output_units; /* such as "m/s^2" */

    /* 0: the field is whole and periodic along this axis. Above 0: it is a subdomain, and the inputs come with so many
     * cells of the neighbours at either end, the output without; at least the artifact's fact `halo`. Cells of the
     * halo do not count, so that the counts of all subdomains add up to those of the whole field. */
    int halo[3];
} hpcs_options;

/* For a struct of so many bytes. It is the host that says how large its own is: hpcs_open refuses one of another
 * version of this header, and nothing is written or read beyond it. */
void hpcs_set_defaults(hpcs_options *options, size_t struct_size);

static inline void hpcs_default_options(hpcs_options *options) { hpcs_set_defaults(options, sizeof *options); }

/* Load an artifact after these checks: its SHA-256 against the manifest beside it, its code, its metadata, its golden
 * vectors, which must be reproduced here, and what the host declares. `options` may be NULL: the defaults.
 * On failure *closure is NULL. */
int hpcs_open(const char *path, const hpcs_options *options, hpcs_closure **closure);

/* NULL is fine. */
int hpcs_close(hpcs_closure *closure);

/* What the artifact says about itself; good until hpcs_close. Keys are name, kind, dtype, halo, filter_width,
 * grid_spacing, input_0, output_0 and others (docs/artifact.md). NULL if there is no such fact. */
const char *hpcs_fact(const hpcs_closure *closure, const char *key);

/* All of hpcsurrogate.json; good until hpcs_close. */
const char *hpcs_metadata(const hpcs_closure *closure);

/* --- apply ------------------------------------------------------------------------------------------------------- */

enum { HPCS_FLOAT32 = 0, HPCS_FLOAT64 = 1 };

#define HPCS_MAX_DIMS 5

/* An array of the host as it lies in memory; `data` may be NULL if it has no element. The axes are those of the
 * artifact, whatever their order in memory: element (i, j, ...) is data[i * strides[0] + j * strides[1] + ...]. */
typedef struct {
    void *data;
    int dtype;
    int num_dims;
    int64_t shape[HPCS_MAX_DIMS];
    int64_t strides[HPCS_MAX_DIMS]; /* in elements, at least 0; 0 repeats a value and is for inputs only */
} hpcs_array;

/* Cells and how many of them got the classical closure instead of the network. No cell counts twice. */
typedef struct {
    int64_t calls;
    int64_t cells;
    int64_t outside;    /* the input is above the range of training */
    int64_t not_finite; /* a value that is not finite stands in what the network would have used for the cell */
    int64_t failed;     /* the network's output is not finite */
} hpcs_counts;

/* Call the closure on arrays of the host.
 *
 * Kind `grid`:       one input, velocity (batch, component, nx, ny[, nz]) [m/s]; output acceleration, the same axes
 *                    [m/s^2].
 * Kind `pointwise`:  velocity_gradient (cells, d * d) [1/s], row by row, and filter_width (cells) [m];
 *                    output sgs_stress (cells, d (d + 1) / 2) [m^2/s^2], deviatoric.
 * A law of a fluid, also `pointwise`: density (cells), temperature (cells) and velocity_gradient (cells, 9), row by
 *                    row; output (cells, 12): stress xx, xy, xz, yy, yz, zz and its standard deviation side by side,
 *                    all in the units of the facts input_0, ..., output_1.
 * A body force:      velocity (cells, 3) [m/s], velocity_gradient (cells, 9), filter_width (cells); output acceleration
 *                    (cells, 3) [m/s^2].
 * A Reynolds stress: velocity_gradient (cells, 9), turbulent_energy (cells) [m^2/s^2], dissipation (cells) [m^2/s^3];
 *                    output (cells, 6) [m^2/s^2], deviatoric.
 *
 * The types may differ from the artifact's and from each other. The output may lie in the memory of an input. Without
 * any cell nothing is done and the call is fine. `counts` are those of this call, and may be NULL. */
int hpcs_apply(hpcs_closure *closure, int num_inputs, const hpcs_array *inputs, const hpcs_array *output,
               hpcs_counts *counts);

/* The sums over all calls of all threads so far. */
int hpcs_total_counts(const hpcs_closure *closure, hpcs_counts *counts);

#ifdef __cplusplus
}
#endif

#endif /* HPCSURROGATE_H */
