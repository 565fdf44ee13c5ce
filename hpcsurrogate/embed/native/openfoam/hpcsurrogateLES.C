#include "fvOptions.H"
#include "fvc.H"
#include "hpcsurrogateLES.H"
#include "wallFvPatch.H"

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
    LESeddyViscosity<BasicTurbulenceModel>(type, alpha, rho, U, alphaRhoPhi, phi, transport, propertiesName),
    Ck_(dimensioned<scalar>::lookupOrAddToDict("Ck", this->coeffDict_, 0.094)),
    nonlinearStress_(newNonlinearStress()),
    closure_(this->coeffDict_, pointwiseClosure::sgsStress)
{
    if (type == typeName)
    {
        this->printCoeffs(type);
    }
}


template<class BasicTurbulenceModel>
autoPtr<volSymmTensorField> hpcsurrogate<BasicTurbulenceModel>::newNonlinearStress() const
{
    const word form(this->coeffDict_.template lookupOrDefault<word>("form", "stress"));
    if (form == "eddyViscosity")
    {
        return nullptr;
    }
    if (form != "stress")
    {
        FatalIOErrorInFunction(this->coeffDict_)
            << "form is " << form << "; give stress or eddyViscosity" << exit(FatalIOError);
    }
    const word name(IOobject::groupName("nonlinearStress", this->alphaRhoPhi_.group()));
    this->mesh_.divScheme("div(" + name + ')');  // is asked for here, so that it is not missing later
    return autoPtr<volSymmTensorField>::New
    (
        IOobject(name, this->runTime_.timeName(), this->mesh_, IOobject::NO_READ, IOobject::AUTO_WRITE),
        this->mesh_,
        dimensionedSymmTensor(sqr(dimVelocity), Zero)
    );
}


template<class BasicTurbulenceModel>
void hpcsurrogate<BasicTurbulenceModel>::updateStress(const bool starting)
{
    const volTensorField gradU(fvc::grad(this->U_));
    const symmTensorField D(dev(symm(gradU.primitiveField())));
    const tmp<symmTensorField> tau(closure_.stress(gradU.primitiveField(), this->delta().primitiveField(), starting));

    this->nut_.primitiveFieldRef() = max(-(tau() && D)/max(2*(D && D), VSMALL), scalar(0));
    this->nut_.correctBoundaryConditions();
    fv::options::New(this->mesh_).correct(this->nut_);
    BasicTurbulenceModel::correctNut();

    if (nonlinearStress_.valid())
    {
        updateNonlinearStress(tau + 2*this->nut_.primitiveField()*D);
    }
}


template<class BasicTurbulenceModel>
void hpcsurrogate<BasicTurbulenceModel>::updateNonlinearStress(const symmTensorField& nonlinear)
{
    nonlinearStress_->primitiveFieldRef() = nonlinear;
    forAll(this->mesh_.boundary(), patchi)
    {
        const fvPatch& patch = this->mesh_.boundary()[patchi];
        if (!patch.coupled() && !isA<wallFvPatch>(patch))
        {
            fvPatchField<symmTensor>& face = nonlinearStress_->boundaryFieldRef()[patchi];
            face == face.patchInternalField();
        }
    }
    nonlinearStress_->correctBoundaryConditions();
}


template<class BasicTurbulenceModel>
void hpcsurrogate<BasicTurbulenceModel>::correctNut()
{
    updateStress(false);
}


template<class BasicTurbulenceModel>
void hpcsurrogate<BasicTurbulenceModel>::validate()
{
    updateStress(true);
}


template<class BasicTurbulenceModel>
void hpcsurrogate<BasicTurbulenceModel>::correct()
{
    LESeddyViscosity<BasicTurbulenceModel>::correct();
    correctNut();
    if (this->runTime_.writeTime())
    {
        closure_.report();
    }
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


template<class BasicTurbulenceModel>
tmp<volSymmTensorField> hpcsurrogate<BasicTurbulenceModel>::R() const
{
    tmp<volSymmTensorField> stress(LESeddyViscosity<BasicTurbulenceModel>::R());
    if (nonlinearStress_.valid())
    {
        stress.ref() += nonlinearStress_();
    }
    return stress;
}


template<class BasicTurbulenceModel>
tmp<volSymmTensorField> hpcsurrogate<BasicTurbulenceModel>::devRhoReff() const
{
    tmp<volSymmTensorField> stress(LESeddyViscosity<BasicTurbulenceModel>::devRhoReff());
    if (nonlinearStress_.valid())
    {
        stress.ref() += this->rho_*nonlinearStress_();
    }
    return stress;
}


template<class BasicTurbulenceModel>
tmp<fvVectorMatrix> hpcsurrogate<BasicTurbulenceModel>::divDevRhoReff(volVectorField& U) const
{
    tmp<fvVectorMatrix> viscous(LESeddyViscosity<BasicTurbulenceModel>::divDevRhoReff(U));
    return nonlinearStress_.valid() ? fvc::div(this->rho_*nonlinearStress_()) + viscous : viscous;
}


template<class BasicTurbulenceModel>
tmp<fvVectorMatrix> hpcsurrogate<BasicTurbulenceModel>::divDevRhoReff
(
    const volScalarField& rho,
    volVectorField& U
) const
{
    tmp<fvVectorMatrix> viscous(LESeddyViscosity<BasicTurbulenceModel>::divDevRhoReff(rho, U));
    return nonlinearStress_.valid() ? fvc::div(rho*nonlinearStress_()) + viscous : viscous;
}

}  // End namespace LESModels
}  // End namespace Foam
