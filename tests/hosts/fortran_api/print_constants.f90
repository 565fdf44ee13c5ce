! Lines "name value ...": the defaults of the options and the constants, which the module and the C header both hold.
program print_constants
    use hpcsurrogate
    implicit none
    type(closure_options) :: options

    print '(a, 1x, i0)', 'unguarded', merge(1, 0, options%unguarded), &
        'allow_compiled', merge(1, 0, options%allow_compiled), 'num_threads', options%num_threads, &
        'device', options%device, 'device_index', options%device_index, &
        'layout', merge(1, 0, allocated(options%layout)), &
        'input_units', merge(1, 0, allocated(options%input_units)), &
        'output_units', merge(1, 0, allocated(options%output_units))
    print '(a, 3(1x, g0))', 'most_fallback', options%most_fallback
    print '(a, 3(1x, g0))', 'filter_width', options%filter_width
    print '(a, 3(1x, g0))', 'grid_spacing', options%grid_spacing
    print '(a, 3(1x, g0))', 'halo', options%halo
    print '(a, 1x, i0)', 'HPCS_OK', HPCS_OK, 'HPCS_TOO_MUCH_FALLBACK', HPCS_TOO_MUCH_FALLBACK, &
        'HPCS_BAD_ARGUMENT', HPCS_BAD_ARGUMENT, 'HPCS_OUT_OF_MEMORY', HPCS_OUT_OF_MEMORY, &
        'HPCS_BAD_MODEL', HPCS_BAD_MODEL, 'HPCS_MISFIT', HPCS_MISFIT, 'HPCS_INTERNAL', HPCS_INTERNAL, &
        'HPCS_CPU', HPCS_CPU, 'HPCS_CUDA', HPCS_CUDA
end program
