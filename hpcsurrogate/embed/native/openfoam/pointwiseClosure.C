#include "pointwiseClosure.H"

#include <ctime>

#include "OSspecific.H"
#include "PstreamReduceOps.H"
#include "Switch.H"

namespace
{

//- An array of OpenFOAM as it lies in memory: for each cell a number, or as many as a tensor has
template<class Type>
hpcs_array arrayOf(const Foam::UList<Type>& field)
{
    static_assert(sizeof(Foam::scalar) == sizeof(double), "for OpenFOAM in double precision");
    const int64_t components = sizeof(Type)/sizeof(double);
    hpcs_array array = {};
    array.data = const_cast<Type*>(field.cdata());
    array.dtype = HPCS_FLOAT64;
    array.num_dims = components == 1 ? 1 : 2;
    array.shape[0] = field.size();
    array.shape[1] = components;
    array.strides[0] = components;
    array.strides[1] = 1;
    return array;
}


Foam::fileName fileOf(const Foam::dictionary& dict)
{
    Foam::fileName path(dict.get<Foam::fileName>("artifact"));
    path.expand();
    // The case as a whole, of a decomposed run too
    return path.isAbsolute() ? path : Foam::fileName(Foam::getEnv("FOAM_CASE"))/path;
}


//- Over all ranks; a scalar counts to 9e15, a label to 2e9
Foam::scalar total(const int64_t count)
{
    return Foam::returnReduce(Foam::scalar(count), Foam::sumOp<Foam::scalar>());
}

}  // End namespace


Foam::pointwiseClosure::pointwiseClosure(const dictionary& dict, const fvMesh& mesh)
:
    dict_(dict),
    path_(fileOf(dict)),
    mostFallback_(dict.lookupOrDefault<scalar>("fallback", 0.5)),
    check_(dict.lookupOrDefault<Switch>("check", true)),
    closure_(nullptr),
    shape_(nullptr),
    sums_(),
    seconds_(0),
    warned_(false)
{
    if (mostFallback_ < 0 || mostFallback_ > 1)
    {
        FatalIOErrorInFunction(dict_)
            << "fallback is " << mostFallback_ << "; give a fraction of the cells, 0 to 1" << exit(FatalIOError);
    }
    open(mesh);
}


Foam::pointwiseClosure::~pointwiseClosure()
{
    hpcs_close(closure_);
}


void Foam::pointwiseClosure::open(const fvMesh& mesh)
{
    hpcs_options options;
    hpcs_default_options(&options);
    options.most_fallback = 1;  // judged here, over all ranks
    options.input_units = "1/s m";
    options.output_units = "m^2/s^2";
    if (hpcs_open(path_.c_str(), &options, &closure_) != HPCS_OK)
    {
        FatalIOErrorInFunction(dict_) << hpcs_last_error() << exit(FatalIOError);
    }
    symmTensorField none(1);
    apply
    (
        tensorField(1, Zero),
        scalarField(1, scalar(1)),
        none,
        "is no closure of kind pointwise in three dimensions, export one: "
    );
    if (std::string(hpcs_fact(closure_, "input_0")).find("scaled_velocity_gradient ") == 0)
    {
        shape_.reset(new cellScale(mesh));
    }
    Info<< "hpcsurrogate: opened " << path_ << ": " << hpcs_fact(closure_, "name") << ", "
        << hpcs_fact(closure_, "dtype") << ", filter width in training " << hpcs_fact(closure_, "filter_width")
        << " m, classical closure " << hpcs_fact(closure_, "fallback") << endl;
}


hpcs_counts Foam::pointwiseClosure::apply
(
    const tensorField& gradient,
    const scalarField& delta,
    symmTensorField& stress,
    const char* wrong
) const
{
    const hpcs_array inputs[] = {arrayOf(gradient), arrayOf(delta)};
    const hpcs_array output = arrayOf(stress);
    hpcs_counts counts = {};
    // Floating-point traps of OpenFOAM do not fire in the call.
    if (hpcs_apply(closure_, 2, inputs, &output, &counts) != HPCS_OK)
    {
        FatalIOErrorInFunction(dict_) << path_ << ": " << wrong << hpcs_last_error() << exit(FatalIOError);
    }
    return counts;
}


Foam::tmp<Foam::symmTensorField> Foam::pointwiseClosure::stress
(
    const tensorField& gradU,
    const scalarField& delta,
    const bool starting
)
{
    const std::clock_t began = std::clock();
    tmp<symmTensorField> tstress(new symmTensorField(gradU.size()));
    tensorField gradient(gradU.T());
    if (shape_.valid())
    {
        gradient = shape_->scaled(gradient);
    }
    const hpcs_counts counts = apply(gradient, delta, tstress.ref(), "");
    seconds_ += scalar(std::clock() - began)/CLOCKS_PER_SEC;
    sums_.cells += counts.cells;
    sums_.outside += counts.outside;
    sums_.not_finite += counts.not_finite;
    sums_.failed += counts.failed;
    judge(counts, starting);
    return tstress;
}


void Foam::pointwiseClosure::judge(const hpcs_counts& counts, const bool starting)
{
    const scalar cells = total(counts.cells);
    const scalar fallen = total(counts.outside + counts.not_finite + counts.failed);
    if (fallen <= mostFallback_*cells)
    {
        return;
    }
    if (starting && check_)
    {
        FatalIOErrorInFunction(dict_)
            << "in the starting field " << fallen << " of " << cells << " cells get the classical closure, fallback"
            << " is " << mostFallback_ << ": the artifact was trained on a weaker flow; take another one, raise"
            << " fallback, or set check no" << exit(FatalIOError);
    }
    if (!warned_)
    {
        IOWarningInFunction(dict_)
            << fallen << " of " << cells << " cells get the classical closure, fallback is " << mostFallback_ << endl;
        warned_ = true;
    }
}


void Foam::pointwiseClosure::report()
{
    const scalar cells = total(sums_.cells);
    const scalar outside = total(sums_.outside);
    const scalar notFinite = total(sums_.not_finite);
    const scalar failed = total(sums_.failed);
    Info<< "hpcsurrogate: of " << cells << " cells so far " << outside + notFinite + failed
        << " got the classical closure: outside " << outside << ", not finite " << notFinite << ", failed " << failed
        << "; " << returnReduce(seconds_, maxOp<scalar>()) << " s in the closure" << endl;
    warned_ = false;
}
