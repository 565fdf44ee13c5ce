#include "hpcsurrogateKEpsilon.H"

namespace Foam
{
namespace RASModels
{

template<class BasicTurbulenceModel>
hpcsurrogateKEpsilon<BasicTurbulenceModel>::hpcsurrogateKEpsilon
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
    closureStress<RASModels::kEpsilon, BasicTurbulenceModel>
    (
        pointwiseClosure::reynoldsStress, alpha, rho, U, alphaRhoPhi, phi, transport, propertiesName, type
    )
{
    if (type == typeName)
    {
        this->printCoeffs(type);
    }
}


template<class BasicTurbulenceModel>
tmp<symmTensorField> hpcsurrogateKEpsilon<BasicTurbulenceModel>::tau(const tensorField& gradU, const bool starting)
{
    return this->closure_.stress(gradU, this->k_.primitiveField(), this->epsilon_.primitiveField(), starting);
}


template<class BasicTurbulenceModel>
void hpcsurrogateKEpsilon<BasicTurbulenceModel>::setNutAtRest()
{
    this->nut_ = this->Cmu_*sqr(this->k_)/this->epsilon_;
}


template<class BasicTurbulenceModel>
tmp<fvScalarMatrix> hpcsurrogateKEpsilon<BasicTurbulenceModel>::kSource() const
{
    tmp<fvScalarMatrix> source(kEpsilon<BasicTurbulenceModel>::kSource());
    if (!this->nonlinearStress_.valid())
    {
        return source;
    }
    const tmp<volTensorField> gradU(fvc::grad(this->U_));
    const volScalarField::Internal givenBack
    (
        max(this->nonlinearStress_().v() && dev(symm(gradU().v())), dimensionedScalar(sqr(dimVelocity)/dimTime, Zero))
    );
    return source - fvm::Sp(this->alpha_()*this->rho_()*givenBack/this->k_(), this->k_);
}


template<class BasicTurbulenceModel>
tmp<fvScalarMatrix> hpcsurrogateKEpsilon<BasicTurbulenceModel>::epsilonSource() const
{
    const tmp<volTensorField> gradU(fvc::grad(this->U_));
    const volScalarField::Internal strain(gradU().v() && dev(twoSymm(gradU().v())));
    const volScalarField::Internal tooMuch
    (
        this->C1_*this->alpha_()*this->rho_()*strain
       *(this->Cmu_*this->k_()/this->epsilon_() - this->nut_()/this->k_())
    );
    return kEpsilon<BasicTurbulenceModel>::epsilonSource() - fvm::SuSp(tooMuch, this->epsilon_);
}


template<class BasicTurbulenceModel>
void hpcsurrogateKEpsilon<BasicTurbulenceModel>::correct()
{
    kEpsilon<BasicTurbulenceModel>::correct();
    this->report();
}

}  // End namespace RASModels
}  // End namespace Foam
