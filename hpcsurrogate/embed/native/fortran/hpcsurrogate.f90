!> The Fortran face of hpcsurrogate.h.
!!
!!     use hpcsurrogate
!!     type(closure) :: learned
!!     type(closure_options) :: options
!!     integer :: status
!!
!!     options%filter_width = 0.1d0    ! [m] what this solver resolves; checked against the artifact
!!     call learned%open('run/model.pt', options, status)
!!     if (status /= HPCS_OK) error stop last_error()
!!     call learned%apply(velocity, acceleration, status)    ! (nx, ny, 2), at every right-hand side
!!     call learned%close()
!!
!! Arrays are handed over as they lie in memory, the component last: velocity(nx, ny, 2), in three dimensions
!! velocity(nx, ny, nz, 3), velocity_gradient(n, d*d).
!! Nothing is transposed; a section with gaps is copied by the compiler.
module hpcsurrogate
    use, intrinsic :: iso_c_binding
    use, intrinsic :: iso_fortran_env, only: int64, real32, real64
    implicit none
    private
    public :: closure, closure_options, closure_counts, last_error, is_recoverable

    !> What a call returns; hpcsurrogate.h says what each means.
    integer, parameter, public :: HPCS_OK = 0, HPCS_TOO_MUCH_FALLBACK = 1, HPCS_BAD_ARGUMENT = 2, &
        HPCS_OUT_OF_MEMORY = 3, HPCS_BAD_MODEL = 10, HPCS_MISFIT = 11, HPCS_INTERNAL = 12
    integer, parameter, public :: HPCS_CPU = 0, HPCS_CUDA = 1

    integer(c_int), parameter :: FLOAT32 = 0, FLOAT64 = 1
    integer, parameter :: MAX_DIMS = 5

    !> How the closure is run and what the host is; what is zero or not allocated is not compared with the artifact.
    type :: closure_options
        logical :: unguarded = .false.            !< the network alone, no guard, no classical closure
        logical :: allow_compiled = .false.       !< open a .pt2 too, which is native code
        integer :: num_threads = 1                !< OpenMP threads that a call may use
        integer :: device = HPCS_CPU              !< where the network runs and where the arrays lie
        integer :: device_index = 0
        real(real64) :: most_fallback = 0.5_real64
        real(real64) :: filter_width = 0          !< [m]
        real(real64) :: grid_spacing(3) = 0       !< [m]
        character(:), allocatable :: layout       !< 'staggered' or 'collocated'
        character(:), allocatable :: input_units  !< such as 'm/s'
        character(:), allocatable :: output_units
        integer :: halo(3) = 0                    !< cells of the neighbours that the inputs come with, along each axis
    end type

    !> Cells, and how many of them got the classical closure instead of the network, and why.
    type, bind(c) :: closure_counts
        integer(c_int64_t) :: calls = 0, cells = 0, outside = 0, not_finite = 0, failed = 0
    end type

    !> A closure from an artifact. Threads may share one. `close` it once; copies of it are the same closure.
    type :: closure
        private
        type(c_ptr) :: handle = c_null_ptr
    contains
        procedure :: open => open_closure
        procedure :: close => close_closure
        procedure :: fact, metadata, total_counts
        !> apply(velocity, acceleration, status [, counts]): velocity (nx, ny, 2) or (nx, ny, nz, 3) [m/s], acceleration
        !> the same [m/s^2];
        !> apply(field, status [, counts]): the velocity is replaced by the acceleration;
        !> apply(velocity_gradient, filter_width, sgs_stress, status [, counts]): (n, d*d) [1/s] row by row, (n) [m],
        !> (n, d*(d+1)/2) [m^2/s^2]. real32 or real64, whatever the artifact's type.
        generic :: apply => apply_real32, apply_real64, replace_real32, replace_real64, apply_3d_real32, &
            apply_3d_real64, replace_3d_real32, replace_3d_real64, pointwise_real32, pointwise_real64
        procedure, private :: apply_real32, apply_real64, replace_real32, replace_real64, apply_3d_real32, &
            apply_3d_real64, replace_3d_real32, replace_3d_real64, pointwise_real32, pointwise_real64
    end type

    type, bind(c) :: c_options
        integer(c_size_t) :: struct_size
        integer(c_int) :: unguarded, allow_compiled, num_threads, device, device_index
        real(c_double) :: most_fallback, filter_width, grid_spacing(3)
        type(c_ptr) :: layout, input_units, output_units
        integer(c_int) :: halo(3)
    end type

    type, bind(c) :: c_array
        type(c_ptr) :: data
        integer(c_int) :: dtype, num_dims
        integer(c_int64_t) :: shape(MAX_DIMS), strides(MAX_DIMS)
    end type

    interface
        subroutine hpcs_set_defaults(options, struct_size) bind(c)
            import :: c_options, c_size_t
            type(c_options), intent(out) :: options
            integer(c_size_t), value :: struct_size
        end subroutine

        integer(c_int) function hpcs_open(path, options, opened) bind(c)
            import :: c_char, c_int, c_options, c_ptr
            character(kind=c_char), intent(in) :: path(*)
            type(c_options), intent(in) :: options
            type(c_ptr), intent(out) :: opened
        end function

        integer(c_int) function hpcs_close(handle) bind(c)
            import :: c_int, c_ptr
            type(c_ptr), value :: handle
        end function

        type(c_ptr) function hpcs_fact(handle, key) bind(c)
            import :: c_char, c_ptr
            type(c_ptr), value :: handle
            character(kind=c_char), intent(in) :: key(*)
        end function

        type(c_ptr) function hpcs_metadata(handle) bind(c)
            import :: c_ptr
            type(c_ptr), value :: handle
        end function

        integer(c_int) function hpcs_apply(handle, num_inputs, inputs, output, counts) bind(c)
            import :: c_array, c_int, c_ptr, closure_counts
            type(c_ptr), value :: handle
            integer(c_int), value :: num_inputs
            type(c_array), intent(in) :: inputs(*), output
            type(closure_counts), intent(out) :: counts
        end function

        integer(c_int) function hpcs_total_counts(handle, counts) bind(c)
            import :: c_int, c_ptr, closure_counts
            type(c_ptr), value :: handle
            type(closure_counts), intent(out) :: counts
        end function

        type(c_ptr) function hpcs_last_error() bind(c)
            import :: c_ptr
        end function

        integer(c_int) function hpcs_is_recoverable(status) bind(c)
            import :: c_int
            integer(c_int), value :: status
        end function

        integer(c_size_t) function c_strlen(text) bind(c, name='strlen')
            import :: c_ptr, c_size_t
            type(c_ptr), value :: text
        end function
    end interface

contains

    !> Load the artifact after every check, those of `options` against it included. status is HPCS_OK, or fatal,
    !! or recoverable if an option is none or there is no memory.
    subroutine open_closure(self, path, options, status)
        class(closure), intent(inout) :: self
        character(*), intent(in) :: path
        type(closure_options), intent(in) :: options
        integer, intent(out) :: status
        type(c_options) :: in_c
        character(:, c_char), allocatable, target :: layout, input_units, output_units

        call hpcs_set_defaults(in_c, c_sizeof(in_c))
        in_c%unguarded = merge(1, 0, options%unguarded)
        in_c%allow_compiled = merge(1, 0, options%allow_compiled)
        in_c%num_threads = options%num_threads
        in_c%device = options%device
        in_c%device_index = options%device_index
        in_c%most_fallback = options%most_fallback
        in_c%filter_width = options%filter_width
        in_c%grid_spacing = options%grid_spacing
        in_c%halo = options%halo
        call point_to(options%layout, layout, in_c%layout)
        call point_to(options%input_units, input_units, in_c%input_units)
        call point_to(options%output_units, output_units, in_c%output_units)
        call self%close()
        status = hpcs_open(trim(path)//c_null_char, in_c, self%handle)
    end subroutine

    !> Give the closure back; fine if it is not open.
    subroutine close_closure(self)
        class(closure), intent(inout) :: self
        integer(c_int) :: ignored

        ignored = hpcs_close(self%handle)
        self%handle = c_null_ptr
    end subroutine

    !> What the artifact says of itself: 'filter_width', 'grid_spacing', 'halo', ...; '' if it does not know the key.
    function fact(self, key) result(value)
        class(closure), intent(in) :: self
        character(*), intent(in) :: key
        character(:), allocatable :: value

        value = text_at(hpcs_fact(self%handle, trim(key)//c_null_char))
    end function

    !> The whole of hpcsurrogate.json.
    function metadata(self) result(json)
        class(closure), intent(in) :: self
        character(:), allocatable :: json

        json = text_at(hpcs_metadata(self%handle))
    end function

    !> Sum of the counts of all calls of all threads.
    function total_counts(self) result(counts)
        class(closure), intent(in) :: self
        type(closure_counts) :: counts
        integer(c_int) :: ignored

        ignored = hpcs_total_counts(self%handle, counts)
    end function

    !> The failure of this thread's last call in one line, '' if it was successful.
    function last_error() result(message)
        character(:), allocatable :: message

        message = text_at(hpcs_last_error())
    end function

    !> Whether the host may go on, perhaps with a smaller time step.
    logical function is_recoverable(status)
        integer, intent(in) :: status

        is_recoverable = hpcs_is_recoverable(int(status, c_int)) /= 0
    end function

    ! --- one procedure for each type and rank -----------------------------------------------------------------------

    subroutine apply_real32(self, velocity, acceleration, status, counts)
        class(closure), intent(in) :: self
        real(real32), intent(in), target, contiguous :: velocity(:, :, :)
        real(real32), intent(inout), target, contiguous :: acceleration(:, :, :)
        integer, intent(out) :: status
        type(closure_counts), intent(out), optional :: counts

        call apply_arrays(self, [grid_array(c_loc(velocity), FLOAT32, shape(velocity, int64))], &
            grid_array(c_loc(acceleration), FLOAT32, shape(acceleration, int64)), status, counts)
    end subroutine

    subroutine apply_real64(self, velocity, acceleration, status, counts)
        class(closure), intent(in) :: self
        real(real64), intent(in), target, contiguous :: velocity(:, :, :)
        real(real64), intent(inout), target, contiguous :: acceleration(:, :, :)
        integer, intent(out) :: status
        type(closure_counts), intent(out), optional :: counts

        call apply_arrays(self, [grid_array(c_loc(velocity), FLOAT64, shape(velocity, int64))], &
            grid_array(c_loc(acceleration), FLOAT64, shape(acceleration, int64)), status, counts)
    end subroutine

    subroutine replace_real32(self, field, status, counts)
        class(closure), intent(in) :: self
        real(real32), intent(inout), target, contiguous :: field(:, :, :)
        integer, intent(out) :: status
        type(closure_counts), intent(out), optional :: counts
        type(c_array) :: array

        array = grid_array(c_loc(field), FLOAT32, shape(field, int64))
        call apply_arrays(self, [array], array, status, counts)
    end subroutine

    subroutine replace_real64(self, field, status, counts)
        class(closure), intent(in) :: self
        real(real64), intent(inout), target, contiguous :: field(:, :, :)
        integer, intent(out) :: status
        type(closure_counts), intent(out), optional :: counts
        type(c_array) :: array

        array = grid_array(c_loc(field), FLOAT64, shape(field, int64))
        call apply_arrays(self, [array], array, status, counts)
    end subroutine

    subroutine apply_3d_real32(self, velocity, acceleration, status, counts)
        class(closure), intent(in) :: self
        real(real32), intent(in), target, contiguous :: velocity(:, :, :, :)
        real(real32), intent(inout), target, contiguous :: acceleration(:, :, :, :)
        integer, intent(out) :: status
        type(closure_counts), intent(out), optional :: counts

        call apply_arrays(self, [grid_array(c_loc(velocity), FLOAT32, shape(velocity, int64))], &
            grid_array(c_loc(acceleration), FLOAT32, shape(acceleration, int64)), status, counts)
    end subroutine

    subroutine apply_3d_real64(self, velocity, acceleration, status, counts)
        class(closure), intent(in) :: self
        real(real64), intent(in), target, contiguous :: velocity(:, :, :, :)
        real(real64), intent(inout), target, contiguous :: acceleration(:, :, :, :)
        integer, intent(out) :: status
        type(closure_counts), intent(out), optional :: counts

        call apply_arrays(self, [grid_array(c_loc(velocity), FLOAT64, shape(velocity, int64))], &
            grid_array(c_loc(acceleration), FLOAT64, shape(acceleration, int64)), status, counts)
    end subroutine

    subroutine replace_3d_real32(self, field, status, counts)
        class(closure), intent(in) :: self
        real(real32), intent(inout), target, contiguous :: field(:, :, :, :)
        integer, intent(out) :: status
        type(closure_counts), intent(out), optional :: counts
        type(c_array) :: array

        array = grid_array(c_loc(field), FLOAT32, shape(field, int64))
        call apply_arrays(self, [array], array, status, counts)
    end subroutine

    subroutine replace_3d_real64(self, field, status, counts)
        class(closure), intent(in) :: self
        real(real64), intent(inout), target, contiguous :: field(:, :, :, :)
        integer, intent(out) :: status
        type(closure_counts), intent(out), optional :: counts
        type(c_array) :: array

        array = grid_array(c_loc(field), FLOAT64, shape(field, int64))
        call apply_arrays(self, [array], array, status, counts)
    end subroutine

    subroutine pointwise_real32(self, velocity_gradient, filter_width, sgs_stress, status, counts)
        class(closure), intent(in) :: self
        real(real32), intent(in), target, contiguous :: velocity_gradient(:, :), filter_width(:)
        real(real32), intent(inout), target, contiguous :: sgs_stress(:, :)
        integer, intent(out) :: status
        type(closure_counts), intent(out), optional :: counts

        call apply_arrays(self, [fortran_array(c_loc(velocity_gradient), FLOAT32, shape(velocity_gradient, int64)), &
            fortran_array(c_loc(filter_width), FLOAT32, shape(filter_width, int64))], &
            fortran_array(c_loc(sgs_stress), FLOAT32, shape(sgs_stress, int64)), status, counts)
    end subroutine

    subroutine pointwise_real64(self, velocity_gradient, filter_width, sgs_stress, status, counts)
        class(closure), intent(in) :: self
        real(real64), intent(in), target, contiguous :: velocity_gradient(:, :), filter_width(:)
        real(real64), intent(inout), target, contiguous :: sgs_stress(:, :)
        integer, intent(out) :: status
        type(closure_counts), intent(out), optional :: counts

        call apply_arrays(self, [fortran_array(c_loc(velocity_gradient), FLOAT64, shape(velocity_gradient, int64)), &
            fortran_array(c_loc(filter_width), FLOAT64, shape(filter_width, int64))], &
            fortran_array(c_loc(sgs_stress), FLOAT64, shape(sgs_stress, int64)), status, counts)
    end subroutine

    ! --- what they share --------------------------------------------------------------------------------------------

    subroutine apply_arrays(self, inputs, output, status, counts)
        class(closure), intent(in) :: self
        type(c_array), intent(in) :: inputs(:), output
        integer, intent(out) :: status
        type(closure_counts), intent(out), optional :: counts
        type(closure_counts) :: of_this_call

        status = hpcs_apply(self%handle, size(inputs), inputs, output, of_this_call)
        if (present(counts)) counts = of_this_call
    end subroutine

    !> An array of Fortran: the first axis runs fastest.
    type(c_array) function fortran_array(data, dtype, lengths) result(array)
        type(c_ptr), intent(in) :: data
        integer(c_int), intent(in) :: dtype
        integer(int64), intent(in) :: lengths(:)
        integer :: axis

        array%data = data
        array%dtype = dtype
        array%num_dims = size(lengths)
        array%shape = 0
        array%strides = 0
        do axis = 1, size(lengths)
            array%shape(axis) = lengths(axis)
            array%strides(axis) = product(lengths(:axis - 1))
        end do
    end function

    !> A field (nx, ny[, nz], component) as the artifact names its axes: (batch, component, x, y[, z]).
    type(c_array) function grid_array(data, dtype, lengths) result(array)
        type(c_ptr), intent(in) :: data
        integer(c_int), intent(in) :: dtype
        integer(int64), intent(in) :: lengths(:)
        integer :: last, axis

        last = size(lengths) + 1
        array = fortran_array(data, dtype, [lengths, 1_int64])
        array%shape(:last) = array%shape([last, last - 1, (axis, axis=1, last - 2)])
        array%strides(:last) = array%strides([last, last - 1, (axis, axis=1, last - 2)])
    end function

    !> Point to a copy of `text` that ends as C expects, or nowhere if there is none.
    subroutine point_to(text, copy, pointer)
        character(:), allocatable, intent(in) :: text
        character(:, c_char), allocatable, target, intent(out) :: copy
        type(c_ptr), intent(out) :: pointer

        pointer = c_null_ptr
        if (.not. allocated(text)) return
        copy = trim(text)//c_null_char
        pointer = c_loc(copy)
    end subroutine

    !> The text that C points to, '' if nowhere.
    function text_at(pointer) result(text)
        type(c_ptr), intent(in) :: pointer
        character(:), allocatable :: text
        character(kind=c_char), pointer :: characters(:)
        integer :: i

        if (.not. c_associated(pointer)) then
            text = ''
            return
        end if
        call c_f_pointer(pointer, characters, [c_strlen(pointer)])
        allocate (character(size(characters)) :: text)
        do i = 1, len(text)
            text(i:i) = characters(i)
        end do
    end function

end module
