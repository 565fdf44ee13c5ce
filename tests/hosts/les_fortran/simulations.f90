!> Staggered, kinetic-energy-conserving finite volumes of second order, classical Runge-Kutta of fourth order.
!!
!! d u / dt = P( - div (u u) + closure ) + nu lap u - drag u + f, u(i, j) and v(i, j) at the upper faces of cell i, j.
module simulations
    use, intrinsic :: iso_c_binding, only: c_int
    use, intrinsic :: iso_fortran_env, only: int64, real64
    use closures, only: new_subgrid_model, subgrid_model
    use projections, only: new_projection, projection
    use settings, only: run_settings
    use slabs, only: slab
    use world, only: world_sum
    implicit none
    private
    public :: simulation, new_simulation

    type :: simulation
        type(run_settings) :: run
        type(slab) :: slab
        class(subgrid_model), allocatable :: model
        type(projection) :: projection
        real(real64), allocatable :: velocity(:, :, :), force(:, :, :)
    contains
        procedure :: step, energy, counts, write_velocity
        procedure, private :: find_rate, add_advection, add_linear_terms
    end type simulation

contains

    function new_simulation(run, cells) result(self)
        type(run_settings), intent(in) :: run
        type(slab), intent(in) :: cells
        type(simulation) :: self

        self%run = run
        self%slab = cells
        self%model = new_subgrid_model(run)
        self%slab%ghosts = self%model%ghosts
        self%projection = new_projection(cells, run%hx, run%hy)
        associate (g => self%model%ghosts)
            allocate (self%velocity(1 - g:cells%nx + g, 1 - g:cells%columns + g, 2), source=0.0_real64)
            allocate (self%force, source=self%velocity)
        end associate
        call self%slab%read_field(run%velocity, self%velocity)
        call self%slab%read_field(run%force, self%force)
    end function new_simulation

    subroutine step(self)
        class(simulation), intent(inout) :: self
        real(real64), allocatable :: stage(:, :, :), k1(:, :, :), k2(:, :, :), k3(:, :, :), k4(:, :, :)

        allocate (k1, k2, k3, k4, mold=self%velocity)
        associate (dt => self%run%time_step)
            stage = self%velocity
            call self%find_rate(stage, k1)
            stage = self%velocity + dt/2*k1
            call self%find_rate(stage, k2)
            stage = self%velocity + dt/2*k2
            call self%find_rate(stage, k3)
            stage = self%velocity + dt*k3
            call self%find_rate(stage, k4)
            self%velocity = self%velocity + dt/6*((k1 + k4) + 2*(k2 + k3))
        end associate
    end subroutine step

    !> Mean kinetic energy [m^2/s^2]; the same bits on any number of ranks.
    function energy(self) result(mean)
        class(simulation), intent(in) :: self
        real(real64) :: mean, of_columns(self%slab%columns)
        integer :: j

        associate (nx => self%slab%nx)
            do j = 1, self%slab%columns
                of_columns(j) = sum(self%velocity(1:nx, j, 1)**2 + self%velocity(1:nx, j, 2)**2)/2
            end do
            mean = self%slab%sum_of_columns(of_columns)/(real(nx, real64)*self%slab%ny)
        end associate
    end function energy

    !> Of all ranks: cells, outside the trained range, not finite, failed.
    function counts(self) result(total)
        class(simulation), intent(in) :: self
        integer(int64) :: total(4)

        total = self%model%counts()
        call world_sum(total, size(total, kind=c_int))
    end function counts

    subroutine write_velocity(self)
        class(simulation), intent(in) :: self

        call self%slab%write_field(self%run%output, self%velocity)
    end subroutine write_velocity

    subroutine find_rate(self, velocity, rate)
        class(simulation), intent(in) :: self
        real(real64), contiguous, intent(inout) :: velocity(1 - self%slab%ghosts:, 1 - self%slab%ghosts:, :)
        real(real64), contiguous, intent(inout) :: rate(1 - self%slab%ghosts:, 1 - self%slab%ghosts:, :)
        real(real64) :: inside(self%slab%nx, self%slab%columns, 2)
        integer :: component

        do component = 1, 2
            call self%slab%exchange(velocity(:, :, component), self%slab%ghosts)
        end do
        call self%model%acceleration(velocity, inside)
        call self%add_advection(velocity, inside)
        rate = 0
        rate(1:self%slab%nx, 1:self%slab%columns, :) = inside
        call self%projection%apply(rate, self%slab%ghosts)
        call self%add_linear_terms(velocity, rate)
    end subroutine find_rate

    subroutine add_advection(self, velocity, rate)
        class(simulation), intent(in) :: self
        real(real64), intent(in) :: velocity(1 - self%slab%ghosts:, 1 - self%slab%ghosts:, :)
        real(real64), intent(inout) :: rate(:, :, :)
        ! Four times the fluxes: both factors are sums of two neighbours instead of means.
        real(real64), dimension(0:self%slab%nx + 1, 0:self%slab%columns + 1) :: xx, xy, yy
        real(real64) :: scale_x, scale_y

        scale_x = -1/(4*self%run%hx)
        scale_y = -1/(4*self%run%hy)
        associate (nx => self%slab%nx, n => self%slab%columns)
            xx(1:nx + 1, 1:n) = (velocity(0:nx, 1:n, 1) + velocity(1:nx + 1, 1:n, 1))**2
            yy(1:nx, 1:n + 1) = (velocity(1:nx, 0:n, 2) + velocity(1:nx, 1:n + 1, 2))**2
            xy(0:nx, 0:n) = (velocity(0:nx, 0:n, 1) + velocity(0:nx, 1:n + 1, 1)) &
                            *(velocity(0:nx, 0:n, 2) + velocity(1:nx + 1, 0:n, 2))
            rate(:, :, 1) = rate(:, :, 1) + (scale_x*(xx(2:nx + 1, 1:n) - xx(1:nx, 1:n)) &
                                             + scale_y*(xy(1:nx, 1:n) - xy(1:nx, 0:n - 1)))
            rate(:, :, 2) = rate(:, :, 2) + (scale_y*(yy(1:nx, 2:n + 1) - yy(1:nx, 1:n)) &
                                             + scale_x*(xy(1:nx, 1:n) - xy(0:nx - 1, 1:n)))
        end associate
    end subroutine add_advection

    subroutine add_linear_terms(self, velocity, rate)
        class(simulation), intent(in) :: self
        real(real64), intent(in) :: velocity(1 - self%slab%ghosts:, 1 - self%slab%ghosts:, :)
        real(real64), intent(inout) :: rate(1 - self%slab%ghosts:, 1 - self%slab%ghosts:, :)
        real(real64) :: per_x, per_y, here(self%slab%nx, self%slab%columns, 2)

        per_x = self%run%viscosity/self%run%hx**2
        per_y = self%run%viscosity/self%run%hy**2
        associate (nx => self%slab%nx, n => self%slab%columns)
            here = velocity(1:nx, 1:n, :)
            rate(1:nx, 1:n, :) = rate(1:nx, 1:n, :) &
                                 + (per_x*(velocity(2:nx + 1, 1:n, :) - 2*here + velocity(0:nx - 1, 1:n, :)) &
                                    + per_y*(velocity(1:nx, 2:n + 1, :) - 2*here + velocity(1:nx, 0:n - 1, :)) &
                                    - self%run%drag*here + self%force(1:nx, 1:n, :))
        end associate
    end subroutine add_linear_terms

end module simulations
