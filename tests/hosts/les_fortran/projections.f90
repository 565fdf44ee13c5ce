!> Exact pressure projection: the discrete Poisson equation in Fourier space.
module projections
    use, intrinsic :: iso_fortran_env, only: real64
    use slabs, only: slab
    use world, only: fail
    implicit none
    private
    public :: projection, new_projection

    real(real64), parameter :: pi = acos(-1.0_real64)

    type :: projection
        private
        type(slab) :: slab
        real(real64) :: hx = 0, hy = 0
        complex(real64), allocatable :: roots_x(:), roots_y(:)
    contains
        procedure :: apply
        procedure, private :: solve_poisson
    end type projection

contains

    function new_projection(cells, hx, hy) result(self)
        type(slab), intent(in) :: cells
        real(real64), intent(in) :: hx, hy
        type(projection) :: self

        self%slab = cells
        self%hx = hx
        self%hy = hy
        allocate (self%roots_x, source=roots_of_unity(cells%nx))
        allocate (self%roots_y, source=roots_of_unity(cells%ny))
    end function new_projection

    !> Take out the gradient part: the discrete divergence vanishes to round-off, the mean stays.
    subroutine apply(self, vector, ghosts)
        class(projection), intent(in) :: self
        integer, intent(in) :: ghosts
        real(real64), contiguous, intent(inout) :: vector(1 - ghosts:, 1 - ghosts:, :)
        real(real64) :: pressure(0:self%slab%nx + 1, 0:self%slab%columns + 1)
        integer :: component

        do component = 1, 2
            call self%slab%exchange(vector(:, :, component), ghosts)
        end do
        associate (nx => self%slab%nx, n => self%slab%columns)
            pressure(1:nx, 1:n) = (vector(1:nx, 1:n, 1) - vector(0:nx - 1, 1:n, 1))/self%hx &
                                  + (vector(1:nx, 1:n, 2) - vector(1:nx, 0:n - 1, 2))/self%hy
            call self%solve_poisson(pressure(1:nx, 1:n))
            call self%slab%exchange(pressure, 1)
            vector(1:nx, 1:n, 1) = vector(1:nx, 1:n, 1) - (pressure(2:nx + 1, 1:n) - pressure(1:nx, 1:n))/self%hx
            vector(1:nx, 1:n, 2) = vector(1:nx, 1:n, 2) - (pressure(1:nx, 2:n + 1) - pressure(1:nx, 1:n))/self%hy
        end associate
    end subroutine apply

    !> The divergence in, the pressure out.
    subroutine solve_poisson(self, field)
        class(projection), intent(in) :: self
        real(real64), intent(inout) :: field(:, :)
        complex(real64) :: by_columns(self%slab%nx, self%slab%columns), by_lines(self%slab%ny, self%slab%lines)
        real(real64) :: symbol
        integer :: i, j, wave_x

        by_columns = cmplx(field, kind=real64)
        do j = 1, self%slab%columns
            call transform(by_columns(:, j), self%roots_x, .false.)
        end do
        call self%slab%transpose(by_columns, by_lines)
        do i = 1, self%slab%lines
            wave_x = self%slab%rank*self%slab%lines + i - 1
            call transform(by_lines(:, i), self%roots_y, .false.)
            do j = 1, self%slab%ny
                symbol = second_difference(wave_x, self%slab%nx, self%hx) &
                         + second_difference(j - 1, self%slab%ny, self%hy)
                if (wave_x == 0 .and. j == 1) then
                    by_lines(j, i) = 0
                else
                    by_lines(j, i) = by_lines(j, i)/(symbol*self%slab%nx*self%slab%ny)
                end if
            end do
            call transform(by_lines(:, i), self%roots_y, .true.)
        end do
        call self%slab%transpose_back(by_lines, by_columns)
        do j = 1, self%slab%columns
            call transform(by_columns(:, j), self%roots_x, .true.)
        end do
        field = real(by_columns, real64)
    end subroutine solve_poisson

    !> exp(-2 pi i k / n) for k < n / 2.
    function roots_of_unity(n) result(roots)
        integer, intent(in) :: n
        complex(real64) :: roots(0:n/2 - 1)
        integer :: k

        if (n < 2 .or. iand(n, n - 1) /= 0) call fail('cells: give powers of two')
        roots = [(cmplx(cos(2*pi*k/n), -sin(2*pi*k/n), real64), k=0, n/2 - 1)]
    end function roots_of_unity

    !> Symbol of the second difference along one axis, not positive.
    pure real(real64) function second_difference(wave, n, h)
        integer, intent(in) :: wave, n
        real(real64), intent(in) :: h

        second_difference = -(2/h*sin(pi*wave/n))**2
    end function second_difference

    !> Discrete Fourier transform of one line in place, radix 2; inverse without the factor 1 / n.
    pure subroutine transform(line, roots, inverse)
        complex(real64), intent(inout) :: line(0:)
        complex(real64), intent(in) :: roots(0:)
        logical, intent(in) :: inverse
        complex(real64) :: odd, root
        integer :: n, half, start, k

        n = size(line)
        call reverse_bits(line)
        half = 1
        do while (half < n)
            do start = 0, n - 1, 2*half
                do k = 0, half - 1
                    root = roots(k*(n/(2*half)))
                    if (inverse) root = conjg(root)
                    odd = line(start + half + k)*root
                    line(start + half + k) = line(start + k) - odd
                    line(start + k) = line(start + k) + odd
                end do
            end do
            half = 2*half
        end do
    end subroutine transform

    !> Swap every value with the one whose index has the same bits in reverse.
    pure subroutine reverse_bits(line)
        complex(real64), intent(inout) :: line(0:)
        complex(real64) :: swapped
        integer :: i, reversed, bit

        reversed = 0
        do i = 1, size(line) - 1
            bit = size(line)/2
            do while (iand(reversed, bit) /= 0)
                reversed = ieor(reversed, bit)
                bit = bit/2
            end do
            reversed = ior(reversed, bit)
            if (i < reversed) then
                swapped = line(i)
                line(i) = line(reversed)
                line(reversed) = swapped
            end if
        end do
    end subroutine reverse_bits

end module projections
