#include "hpcsurrogateLES.H"

namespace Foam
{
namespace LESModels
{

template<class BasicTurbulenceModel>
hpcsurrogate<BasicTurbulenceModel>::hpcsurrogate
(
    const alphaField& alpha,
    const rhoField& rho,
    const volVectorField& U,
    const surfaceScalarField& alphaRhoPhi,
    const surfaceScalarField& phi,
    const transportModel& transport,
    const word& propertiesName,
    const word& type
)
:
    closureStress<LESModels::LESeddyViscosity, BasicTurbulenceModel>
    (
        pointwiseClosure::sgsStress, type, alpha, rho, U, alphaRhoPhi, phi, transport, propertiesName
    ),
    Ck_(dimensioned<scalar>::lookupOrAddToDict("Ck", this->coeffDict_, 0.094)),
    scale_(this->closure_.takesScaledGradient() ? new cellScale(this->mesh_) : nullptr)
{
    if (type == typeName)
    {
        this->printCoeffs(type);
    }
}


template<class BasicTurbulenceModel>
tmp<symmTensorField> hpcsurrogate<BasicTurbulenceModel>::tau(const tensorField& gradU, const bool starting)
{
    const scalarField& delta = this->delta().primitiveField();
    return this->closure_.stress(scale_.valid() ? scale_->scaled(gradU)() : gradU, delta, starting);
}


template<class BasicTurbulenceModel>
void hpcsurrogate<BasicTurbulenceModel>::setNutAtRest()
{
    this->nut_.primitiveFieldRef() = Zero;
}


template<class BasicTurbulenceModel>
void hpcsurrogate<BasicTurbulenceModel>::correct()
{
    LESeddyViscosity<BasicTurbulenceModel>::correct();
    this->correctNut();
    this->report();
}


template<class BasicTurbulenceModel>
tmp<volScalarField> hpcsurrogate<BasicTurbulenceModel>::k() const
{
    const word name(IOobject::groupName("k", this->alphaRhoPhi_.group()));
    return tmp<volScalarField>::New
    (
        IOobject(name, this->runTime_.timeName(), this->mesh_),
        sqr(this->nut_/(Ck_*this->delta()))
    );
}

}  // End namespace LESModels
}  // End namespace Foam
