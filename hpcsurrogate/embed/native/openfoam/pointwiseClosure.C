#include "pointwiseClosure.H"

#include <ctime>
#include <string>

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


const std::string scaled = "scaled_";
const std::string tensorPort = " 1/s collocated nc xx,xy,xz,yx,yy,yz,zx,zy,zz";
const std::string symmTensorPort = " m^2/s^2 collocated nc xx,xy,xz,yy,yz,zz";
const std::string deltaPort = "\n    input filter_width m collocated nc -";

//- What portsOf has to return, of each quantity; of the first, the gradient may be scaled
const std::string ports[] =
{
    "\n    input velocity_gradient" + tensorPort + deltaPort + "\n    output sgs_stress" + symmTensorPort,
    "\n    input velocity m/s collocated nc x,y,z\n    input velocity_gradient" + tensorPort + deltaPort
  + "\n    output body_force m/s^2 collocated nc x,y,z",
    "\n    input velocity_gradient" + tensorPort + "\n    input turbulent_energy m^2/s^2 collocated nc -"
  + "\n    input dissipation m^2/s^3 collocated nc -\n    output reynolds_stress" + symmTensorPort
};


//- Inputs and outputs of an artifact, a line each: field, unit, layout, axes and components
std::string portsOf(const hpcs_closure* closure)
{
    std::string lines;
    for (const char* side : {"input", "output"})
    {
        for (int number = 0;; ++number)
        {
            const std::string key = std::string(side) + '_' + std::to_string(number);
            const char* port = hpcs_fact(closure, key.c_str());
            if (port == nullptr)
            {
                break;
            }
            lines += std::string("\n    ") + side + ' ' + port;
        }
    }
    return lines;
}


//- Over all ranks; a scalar counts to 9e15, a label to 2e9
Foam::scalar total(const int64_t count)
{
    return Foam::returnReduce(Foam::scalar(count), Foam::sumOp<Foam::scalar>());
}

}  // End namespace


Foam::pointwiseClosure::pointwiseClosure(const dictionary& dict, const quantity wanted)
:
    dict_(dict),
    path_(fileOf(dict)),
    mostFallback_(dict.lookupOrDefault<scalar>("fallback", 0.5)),
    check_(dict.lookupOrDefault<Switch>("check", true)),
    closure_(nullptr),
    sums_(),
    seconds_(0),
    warned_(false)
{
    if (mostFallback_ < 0 || mostFallback_ > 1)
    {
        FatalIOErrorInFunction(dict_)
            << "fallback is " << mostFallback_ << "; give a fraction of the cells, 0 to 1" << exit(FatalIOError);
    }
    open(wanted);
}


Foam::pointwiseClosure::~pointwiseClosure()
{
    hpcs_close(closure_);
}


void Foam::pointwiseClosure::open(const quantity wanted)
{
    hpcs_options options;
    hpcs_default_options(&options);
    options.most_fallback = 1;  // judged here, over all ranks
    if (hpcs_open(path_.c_str(), &options, &closure_) != HPCS_OK)
    {
        FatalIOErrorInFunction(dict_) << hpcs_last_error() << exit(FatalIOError);
    }
    require(wanted);
    Info<< "hpcsurrogate: opened " << path_ << ": " << hpcs_fact(closure_, "name") << ", "
        << hpcs_fact(closure_, "dtype");
    if (hpcs_fact(closure_, "filter_width")[0] != '\0')
    {
        Info<< ", filter width in training " << hpcs_fact(closure_, "filter_width") << " m";
    }
    Info<< ", classical closure " << hpcs_fact(closure_, "fallback") << endl;
}


bool Foam::pointwiseClosure::takesScaledGradient() const
{
    return std::string(hpcs_fact(closure_, "input_0")).compare(0, scaled.size(), scaled) == 0;
}


void Foam::pointwiseClosure::require(const quantity wanted) const
{
    const std::string found = portsOf(closure_);
    std::string known = found;
    if (wanted == sgsStress && takesScaledGradient())
    {
        known.erase(known.find(scaled), scaled.size());
    }
    if (known != ports[wanted])
    {
        FatalIOErrorInFunction(dict_)
            << path_ << ": is no closure of kind pointwise in three dimensions of what is wanted here, export one:" << nl
            << "wanted" << ports[wanted].c_str() << nl
            << "found" << found.c_str() << exit(FatalIOError);
    }
}


void Foam::pointwiseClosure::apply
(
    std::initializer_list<hpcs_array> inputs,
    const hpcs_array& output,
    const bool starting
)
{
    const std::clock_t began = std::clock();
    hpcs_counts counts = {};
    // Floating-point traps of OpenFOAM do not fire in the call.
    if (hpcs_apply(closure_, int(inputs.size()), inputs.begin(), &output, &counts) != HPCS_OK)
    {
        FatalIOErrorInFunction(dict_) << path_ << ": " << hpcs_last_error() << exit(FatalIOError);
    }
    seconds_ += scalar(std::clock() - began)/CLOCKS_PER_SEC;
    sums_.cells += counts.cells;
    sums_.outside += counts.outside;
    sums_.not_finite += counts.not_finite;
    sums_.failed += counts.failed;
    judge(counts, starting);
}


Foam::tmp<Foam::symmTensorField> Foam::pointwiseClosure::stress
(
    const tensorField& gradU,
    const scalarField& delta,
    const bool starting
)
{
    tmp<symmTensorField> tstress(new symmTensorField(gradU.size()));
    const tensorField gradient(gradU.T());
    apply({arrayOf(gradient), arrayOf(delta)}, arrayOf(tstress()), starting);
    return tstress;
}


Foam::tmp<Foam::symmTensorField> Foam::pointwiseClosure::stress
(
    const tensorField& gradU,
    const scalarField& k,
    const scalarField& epsilon,
    const bool starting
)
{
    tmp<symmTensorField> tstress(new symmTensorField(gradU.size()));
    const tensorField gradient(gradU.T());
    apply({arrayOf(gradient), arrayOf(k), arrayOf(epsilon)}, arrayOf(tstress()), starting);
    return tstress;
}


Foam::tmp<Foam::vectorField> Foam::pointwiseClosure::acceleration
(
    const vectorField& U,
    const tensorField& gradU,
    const scalarField& delta,
    const bool starting
)
{
    tmp<vectorField> tforce(new vectorField(U.size()));
    const tensorField gradient(gradU.T());
    apply({arrayOf(U), arrayOf(gradient), arrayOf(delta)}, arrayOf(tforce()), starting);
    return tforce;
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
