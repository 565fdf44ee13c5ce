/* A closure in a program in C: du/dt = closure(u) on one periodic staggered field, by Euler steps.
 *
 *     closure_c run/model.pt */
#include <math.h>
#include <stdio.h>

#include "hpcsurrogate.h"

enum { NX = 64, NY = 64, NUM_STEPS = 10 };
static const double PI = 3.141592653589793;
static double velocity[2][NX][NY], acceleration[2][NX][NY];

/* An array of this program with the artifact's axes (batch, component, x, y). */
static hpcs_array field(double (*data)[NX][NY]) {
    hpcs_array array = {&data[0][0][0], HPCS_FLOAT64, 4, {1, 2, NX, NY}, {2 * NX * NY, NX * NY, NY, 1}};
    return array;
}

static hpcs_closure *open_closure(const char *path) {
    hpcs_closure *closure = NULL;
    hpcs_options options;
    hpcs_default_options(&options);
    options.layout = "staggered"; /* what this solver is: compared with what the artifact was trained for */
    options.grid_spacing[0] = 2 * PI / NX;
    options.grid_spacing[1] = 2 * PI / NY;
    options.input_units = "m/s";
    options.output_units = "m/s^2";
    if (hpcs_open(path, &options, &closure) != HPCS_OK)
        fprintf(stderr, "closure_c: %s\n", hpcs_last_error());
    return closure;
}

static void start_with_vortices(void) {
    for (int i = 0; i < NX; ++i)
        for (int j = 0; j < NY; ++j) { /* u at ((i+1) h, (j+1/2) h), v at ((i+1/2) h, (j+1) h) */
            velocity[0][i][j] = sin(2 * PI * (i + 1) / NX) * cos(2 * PI * (j + 0.5) / NY);
            velocity[1][i][j] = -cos(2 * PI * (i + 0.5) / NX) * sin(2 * PI * (j + 1) / NY);
        }
}

static void add_acceleration(double time_step) {
    for (int c = 0; c < 2; ++c)
        for (int i = 0; i < NX; ++i)
            for (int j = 0; j < NY; ++j)
                velocity[c][i][j] += time_step * acceleration[c][i][j];
}

int main(int argc, char **argv) {
    hpcs_closure *closure = argc == 2 ? open_closure(argv[1]) : NULL;
    if (closure == NULL)
        return 1;
    start_with_vortices();
    double time_step = 0.01;
    for (int step = 0; step < NUM_STEPS; ++step) {
        const hpcs_array input = field(velocity), output = field(acceleration);
        const int status = hpcs_apply(closure, 1, &input, &output, NULL);
        if (status == HPCS_TOO_MUCH_FALLBACK) {
            time_step /= 2; /* the flow has left what the network knows: go slower */
        } else if (status != HPCS_OK) {
            fprintf(stderr, "closure_c: %s\n", hpcs_last_error());
            return 1;
        }
        add_acceleration(time_step);
    }
    hpcs_counts counts;
    hpcs_total_counts(closure, &counts);
    printf("u %.12f cells %lld outside %lld not finite %lld failed %lld\n", velocity[0][5][7], (long long)counts.cells,
           (long long)counts.outside, (long long)counts.not_finite, (long long)counts.failed);
    hpcs_close(closure);
    return 0;
}
