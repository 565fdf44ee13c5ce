! apply32|apply64 MODEL MODE: cases from the standard input, results to the standard output.
!
! A case is two or three integers of 8 bytes, then the arrays as Fortran keeps them. Modes grid, grid-in-place and grid-ghosts:
! nx, ny, velocity(nx, ny, 2); the last one hands over the inner cells of arrays with a layer of ghost cells around.
! Modes box and box-in-place: nx, ny, nz, velocity(nx, ny, nz, 3).
! Mode pointwise: n, number of gradient components, velocity_gradient(n, components), filter_width(n). To the standard
! error go 'opened', the failures, and at the end the counts.
program apply
    use hpcsurrogate
    use, intrinsic :: iso_fortran_env, only: error_unit, int64, REAL_KIND
    implicit none
    integer, parameter :: wp = REAL_KIND
    type(closure) :: learned
    type(closure_options) :: options
    type(closure_counts) :: counts
    character(1000) :: path, mode
    integer(int64) :: sizes(2), nz
    integer :: cases, results, status, ended

    call get_command_argument(1, path)
    call get_command_argument(2, mode)
    call learned%open(path, options, status)
    if (status /= HPCS_OK) then
        write (error_unit, '(a, i0, 2a)') 'fatal ', status, ' ', last_error()
        error stop 1
    end if
    write (error_unit, '(a)') 'opened'
    flush (error_unit)
    open (newunit=cases, file='/dev/stdin', access='stream', form='unformatted', action='read')
    open (newunit=results, file='/dev/stdout', access='stream', form='unformatted', action='write')
    do
        read (cases, iostat=ended) sizes
        if (ended /= 0) exit
        select case (mode)
        case ('pointwise')
            call apply_pointwise(int(sizes(1)), int(sizes(2)))
        case ('box', 'box-in-place')
            read (cases) nz
            call apply_box(int([sizes, nz]), mode == 'box-in-place')
        case ('grid-ghosts')
            call apply_with_ghosts(int(sizes(1)), int(sizes(2)))
        case default
            call apply_grid(int(sizes(1)), int(sizes(2)), mode == 'grid-in-place')
        end select
        flush (results)
    end do
    counts = learned%total_counts()
    write (error_unit, '(a, 5(1x, i0))') 'counts', counts
    call learned%close()

contains

    subroutine apply_grid(nx, ny, in_place)
        integer, intent(in) :: nx, ny
        logical, intent(in) :: in_place
        real(wp), allocatable :: velocity(:, :, :), acceleration(:, :, :)

        allocate (velocity(nx, ny, 2), acceleration(nx, ny, 2))
        read (cases) velocity
        if (in_place) then
            call learned%apply(velocity, status, counts)
            acceleration = velocity
        else
            call learned%apply(velocity, acceleration, status, counts)
        end if
        call report(acceleration)
    end subroutine

    subroutine apply_box(points, in_place)
        integer, intent(in) :: points(3)
        logical, intent(in) :: in_place
        real(wp), allocatable :: velocity(:, :, :, :), acceleration(:, :, :, :)

        allocate (velocity(points(1), points(2), points(3), 3))
        read (cases) velocity
        acceleration = velocity
        if (in_place) then
            call learned%apply(acceleration, status, counts)
        else
            call learned%apply(velocity, acceleration, status, counts)
        end if
        if (status == HPCS_OK) write (results) acceleration
        if (status /= HPCS_OK) call report_failure()
    end subroutine

    subroutine apply_with_ghosts(nx, ny)
        integer, intent(in) :: nx, ny
        real(wp), allocatable :: velocity(:, :, :), acceleration(:, :, :)
        real(wp), parameter :: ghost = 77

        allocate (velocity(0:nx + 1, 0:ny + 1, 2), acceleration(0:nx + 1, 0:ny + 1, 2), source=ghost)
        read (cases) velocity(1:nx, 1:ny, :)
        call learned%apply(velocity(1:nx, 1:ny, :), acceleration(1:nx, 1:ny, :), status, counts)
        call report(acceleration(1:nx, 1:ny, :))
        acceleration(1:nx, 1:ny, :) = ghost
        if (any(abs(acceleration - ghost) > 0)) write (error_unit, '(a)') 'a ghost cell was written'
    end subroutine

    subroutine apply_pointwise(n, components)
        integer, intent(in) :: n, components
        real(wp), allocatable :: gradient(:, :), width(:), stress(:, :)

        allocate (gradient(n, components), width(n), stress(n, merge(3, 6, components == 4)))
        read (cases) gradient, width
        call learned%apply(gradient, width, stress, status, counts)
        if (status == HPCS_OK) write (results) stress
        if (status /= HPCS_OK) call report_failure()
    end subroutine

    subroutine report(field)
        real(wp), intent(in) :: field(:, :, :)

        if (status == HPCS_OK) write (results) field
        if (status /= HPCS_OK) call report_failure()
    end subroutine

    subroutine report_failure()
        if (is_recoverable(status)) then
            write (error_unit, '(2(a, i0), 2a)') 'recoverable ', status, ' ', counts%outside, ' ', last_error()
        else
            write (error_unit, '(a, i0, 2a)') 'fatal ', status, ' ', last_error()
        end if
    end subroutine

end program
