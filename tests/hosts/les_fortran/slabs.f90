!> The domain cut along y: every rank holds the same number of columns, whole along x, which runs fastest.
module slabs
    use, intrinsic :: iso_c_binding, only: c_int
    use, intrinsic :: iso_fortran_env, only: int64, real64
    use world, only: fail, world_gather, world_pass, world_swap
    implicit none
    private
    public :: slab, new_slab

    type :: slab
        integer :: nx = 0, ny = 0              !< cells of the whole field
        integer(c_int) :: rank = 0, ranks = 1
        integer :: columns = 0                 !< of this rank along y
        integer :: lines = 0                   !< lines along y of this rank after `transpose`
        integer :: ghosts = 0
    contains
        procedure :: exchange, transpose, transpose_back, read_field, write_field, sum_of_columns
    end type slab

contains

    function new_slab(nx, ny, rank, ranks) result(self)
        integer, intent(in) :: nx, ny
        integer(c_int), intent(in) :: rank, ranks
        type(slab) :: self

        if (mod(nx, ranks) /= 0 .or. mod(ny, ranks) /= 0) call fail('cells: the number of ranks does not divide them')
        self%nx = nx
        self%ny = ny
        self%rank = rank
        self%ranks = ranks
        self%columns = ny/ranks
        self%lines = nx/ranks
    end function new_slab

    !> Fill the ghost cells of one component: across y from the neighbours' cells, across x periodically.
    subroutine exchange(self, field, ghosts)
        class(slab), intent(in) :: self
        integer, intent(in) :: ghosts
        real(real64), contiguous, intent(inout) :: field(1 - ghosts:, 1 - ghosts:)
        integer(c_int) :: below, above, count

        if (ghosts > self%columns) call fail('cells: a rank has fewer columns than ghost columns')
        below = modulo(self%rank - 1, self%ranks)
        above = modulo(self%rank + 1, self%ranks)
        associate (n => self%columns)
            count = int(ghosts*size(field, 1), c_int)
            call world_pass(field(:, n - ghosts + 1:n), above, field(:, 1 - ghosts:0), below, count)
            call world_pass(field(:, 1:ghosts), below, field(:, n + 1:n + ghosts), above, count)
        end associate
        field(1 - ghosts:0, :) = field(self%nx - ghosts + 1:self%nx, :)
        field(self%nx + 1:self%nx + ghosts, :) = field(1:ghosts, :)
    end subroutine exchange

    !> (nx, columns) of every rank to (ny, lines), so that each rank has its lines along y whole.
    subroutine transpose(self, by_columns, by_lines)
        class(slab), intent(in) :: self
        complex(real64), intent(in) :: by_columns(:, :)
        complex(real64), intent(out) :: by_lines(:, :)
        complex(real64) :: sent(self%columns, self%lines, self%ranks), received(self%columns, self%lines, self%ranks)
        integer :: other, i

        do other = 1, self%ranks
            do i = 1, self%lines
                sent(:, i, other) = by_columns((other - 1)*self%lines + i, :)
            end do
        end do
        call world_swap(sent, received, int(2*self%columns*self%lines, c_int))
        do other = 1, self%ranks
            by_lines((other - 1)*self%columns + 1:other*self%columns, :) = received(:, :, other)
        end do
    end subroutine transpose

    !> The way back.
    subroutine transpose_back(self, by_lines, by_columns)
        class(slab), intent(in) :: self
        complex(real64), intent(in) :: by_lines(:, :)
        complex(real64), intent(out) :: by_columns(:, :)
        complex(real64) :: sent(self%columns, self%lines, self%ranks), received(self%columns, self%lines, self%ranks)
        integer :: other, i

        do other = 1, self%ranks
            sent(:, :, other) = by_lines((other - 1)*self%columns + 1:other*self%columns, :)
        end do
        call world_swap(sent, received, int(2*self%columns*self%lines, c_int))
        do other = 1, self%ranks
            do i = 1, self%lines
                by_columns((other - 1)*self%lines + i, :) = received(:, i, other)
            end do
        end do
    end subroutine transpose_back

    !> Read this rank's part of a raw file of doubles, (nx, ny, components) in Fortran's order.
    subroutine read_field(self, path, field)
        class(slab), intent(in) :: self
        character(*), intent(in) :: path
        real(real64), intent(inout) :: field(1 - self%ghosts:, 1 - self%ghosts:, :)
        integer :: unit, status, component, j
        integer(int64) :: first

        open (newunit=unit, file=path, access='stream', form='unformatted', status='old', action='read', iostat=status)
        if (status /= 0) call fail(path//': cannot be read')
        do component = 1, size(field, 3)
            do j = 1, self%columns
                first = ((component - 1)*int(self%ny, int64) + self%rank*self%columns + j - 1)*self%nx
                read (unit, pos=8*first + 1, iostat=status) field(1:self%nx, j, component)
                if (status /= 0) call fail(path//': is shorter than the grid')
            end do
        end do
        close (unit)
    end subroutine read_field

    !> Write such a file from all ranks.
    subroutine write_field(self, path, field)
        class(slab), intent(in) :: self
        character(*), intent(in) :: path
        real(real64), intent(in) :: field(1 - self%ghosts:, 1 - self%ghosts:, :)
        real(real64) :: mine(self%nx, self%columns), all(self%nx, self%ny)
        integer :: unit, status, component

        status = 0
        if (self%rank == 0) then
            open (newunit=unit, file=path, access='stream', form='unformatted', status='replace', iostat=status)
        end if
        do component = 1, size(field, 3)
            mine = field(1:self%nx, 1:self%columns, component)
            call world_gather(mine, all, int(size(mine), c_int))
            if (self%rank == 0 .and. status == 0) write (unit, iostat=status) all
        end do
        if (status /= 0) call fail(path//': cannot be written')
        if (self%rank == 0) close (unit)
    end subroutine write_field

    !> Sum over all ranks of one number for each column; the same bits on any number of ranks.
    function sum_of_columns(self, of_columns) result(total)
        class(slab), intent(in) :: self
        real(real64), intent(in) :: of_columns(:)
        real(real64) :: total, all(self%ny)
        integer :: j

        call world_gather(of_columns, all, int(self%columns, c_int))
        total = 0
        do j = 1, self%ny
            total = total + all(j)
        end do
    end function sum_of_columns

end module slabs
