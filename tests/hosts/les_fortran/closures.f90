!> What stands for the scales that the grid does not resolve.
module closures
    use, intrinsic :: iso_fortran_env, only: int64, real64
    use hpcsurrogate, only: closure, closure_counts, closure_options, last_error, HPCS_OK
    use settings, only: run_settings
    use slabs, only: slab
    use world, only: fail
    implicit none
    private
    public :: subgrid_model, new_subgrid_model

    !> Any of them; a child says what `acceleration` [m/s^2] it adds at the velocity's points.
    type, abstract :: subgrid_model
        integer :: ghosts = 1    !< cells around the slab that the velocity has, filled
    contains
        procedure(acceleration_of), deferred :: acceleration
        procedure :: counts
    end type subgrid_model

    abstract interface
        subroutine acceleration_of(self, velocity, acceleration)
            import :: real64, subgrid_model
            class(subgrid_model), intent(in) :: self
            real(real64), contiguous, intent(in) :: velocity(1 - self%ghosts:, 1 - self%ghosts:, :)
            real(real64), contiguous, intent(inout) :: acceleration(:, :, :)
        end subroutine acceleration_of
    end interface

    type, extends(subgrid_model) :: no_model
    contains
        procedure :: acceleration => nothing
    end type no_model

    type, extends(subgrid_model) :: smagorinsky
        real(real64) :: hx = 0, hy = 0, mixing_length = 0    !< [m]
    contains
        procedure :: acceleration => smagorinsky_acceleration
    end type smagorinsky

    type, extends(subgrid_model) :: artifact
        type(closure) :: learned
    contains
        procedure :: acceleration => artifact_acceleration
        procedure :: counts => artifact_counts
    end type artifact

contains

    !> The one that the settings name.
    function new_subgrid_model(run) result(model)
        type(run_settings), intent(in) :: run
        class(subgrid_model), allocatable :: model

        select case (run%closure)
        case ('none')
            allocate (model, source=no_model())
        case ('smagorinsky')
            allocate (model, source=smagorinsky(2, run%hx, run%hy, run%constant*run%filter_width))
        case ('artifact')
            allocate (model, source=new_artifact(run))
        case default
            call fail('closure: '//run%closure//' is none of none, smagorinsky, artifact')
        end select
    end function new_subgrid_model

    !> Of this rank so far: cells, and how many fell back: outside the trained range, not finite, failed.
    function counts(self) result(values)
        class(subgrid_model), intent(in) :: self
        integer(int64) :: values(4)

        associate (unused => self)
        end associate
        values = 0
    end function counts

    subroutine nothing(self, velocity, acceleration)
        class(no_model), intent(in) :: self
        real(real64), contiguous, intent(in) :: velocity(1 - self%ghosts:, 1 - self%ghosts:, :)
        real(real64), contiguous, intent(inout) :: acceleration(:, :, :)

        associate (unused => velocity)
        end associate
        acceleration = 0
    end subroutine nothing

    !> -div tau, tau_ij = -2 (C Delta)^2 |S| S_ij; diagonal at centres, xy at corners ((i+1) hx, (j+1) hy).
    subroutine smagorinsky_acceleration(self, velocity, acceleration)
        class(smagorinsky), intent(in) :: self
        real(real64), contiguous, intent(in) :: velocity(1 - self%ghosts:, 1 - self%ghosts:, :)
        real(real64), contiguous, intent(inout) :: acceleration(:, :, :)
        real(real64) :: ux(0:size(acceleration, 1) + 1, 0:size(acceleration, 2) + 1)
        real(real64), dimension(0:size(acceleration, 1) + 1, 0:size(acceleration, 2) + 1) :: vy, eddy_viscosity, xx, yy
        real(real64), dimension(-1:size(acceleration, 1) + 1, -1:size(acceleration, 2) + 1) :: shear, xy
        integer :: nx, ny

        nx = size(acceleration, 1)
        ny = size(acceleration, 2)
        associate (u => velocity(:, :, 1), v => velocity(:, :, 2), g => self%ghosts)
            ! In the associated names the first cell has the index g + 1.
            ux = (u(g:g + nx + 1, g:g + ny + 1) - u(g - 1:g + nx, g:g + ny + 1))/self%hx
            vy = (v(g:g + nx + 1, g:g + ny + 1) - v(g:g + nx + 1, g - 1:g + ny))/self%hy
            shear = (u(g - 1:g + nx + 1, g:g + ny + 2) - u(g - 1:g + nx + 1, g - 1:g + ny + 1))/self%hy &
                    + (v(g:g + nx + 2, g - 1:g + ny + 1) - v(g - 1:g + nx + 1, g - 1:g + ny + 1))/self%hx
        end associate
        eddy_viscosity = self%mixing_length**2*sqrt(2*(ux*ux + vy*vy) + mean_of_four(shear*shear))
        xx = -2*eddy_viscosity*ux
        yy = -2*eddy_viscosity*vy
        xy(0:nx, 0:ny) = -mean_of_four(eddy_viscosity)*shear(0:nx, 0:ny)
        acceleration(:, :, 1) = -((xx(2:nx + 1, 1:ny) - xx(1:nx, 1:ny))/self%hx &
                                  + (xy(1:nx, 1:ny) - xy(1:nx, 0:ny - 1))/self%hy)
        acceleration(:, :, 2) = -((xy(1:nx, 1:ny) - xy(0:nx - 1, 1:ny))/self%hx &
                                  + (yy(1:nx, 2:ny + 1) - yy(1:nx, 1:ny))/self%hy)
    end subroutine smagorinsky_acceleration

    !> Mean of each two by two neighbours; one value fewer along each axis.
    pure function mean_of_four(field) result(mean)
        real(real64), intent(in) :: field(:, :)
        real(real64) :: mean(size(field, 1) - 1, size(field, 2) - 1)

        associate (nx => size(field, 1), ny => size(field, 2))
            mean = 0.25_real64*((field(:nx - 1, :ny - 1) + field(2:, :ny - 1)) + (field(:nx - 1, 2:) + field(2:, 2:)))
        end associate
    end function mean_of_four

    ! --- the exported closure ----------------------------------------------------------------------------------------

    !> Opened twice: what it says of its halo is what this solver then declares to have around a slab.
    function new_artifact(run) result(self)
        type(run_settings), intent(in) :: run
        type(artifact) :: self
        type(closure_options) :: options
        character(:), allocatable :: halo

        call open(self%learned, run%model, options)
        halo = self%learned%fact('halo')
        if (halo == 'whole field') call fail(run%model//': needs the whole field, which no rank of this solver has')
        read (halo, *) self%ghosts
        options%halo(:2) = self%ghosts
        options%layout = 'staggered'
        options%input_units = 'm/s'
        options%output_units = 'm/s^2'
        options%grid_spacing(:2) = [run%hx, run%hy]
        options%filter_width = run%filter_width
        options%most_fallback = 1    ! this solver only counts
        call open(self%learned, run%model, options)
    end function new_artifact

    subroutine open(learned, model, options)
        type(closure), intent(inout) :: learned
        character(*), intent(in) :: model
        type(closure_options), intent(in) :: options
        integer :: status

        call learned%open(model, options, status)
        if (status /= HPCS_OK) call fail(last_error())
    end subroutine open

    subroutine artifact_acceleration(self, velocity, acceleration)
        class(artifact), intent(in) :: self
        real(real64), contiguous, intent(in) :: velocity(1 - self%ghosts:, 1 - self%ghosts:, :)
        real(real64), contiguous, intent(inout) :: acceleration(:, :, :)
        integer :: status

        call self%learned%apply(velocity, acceleration, status)
        if (status /= HPCS_OK) call fail(last_error())
    end subroutine artifact_acceleration

    function artifact_counts(self) result(values)
        class(artifact), intent(in) :: self
        integer(int64) :: values(4)
        type(closure_counts) :: total

        total = self%learned%total_counts()
        values = [total%cells, total%outside, total%not_finite, total%failed]
    end function artifact_counts

end module closures
