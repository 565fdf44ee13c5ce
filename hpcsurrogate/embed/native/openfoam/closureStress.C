#include <utility>

#include "closureStress.H"
#include "fvOptions.H"
#include "fvc.H"
#include "wallFvPatch.H"

namespace Foam
{

template<template<class> class Model, class BasicTurbulenceModel>
template<class... Arguments>
closureStress<Model, BasicTurbulenceModel>::closureStress
(
    const pointwiseClosure::quantity wanted,
    Arguments&&... arguments
)
:
    Model<BasicTurbulenceModel>(std::forward<Arguments>(arguments)...),
    nonlinearStress_(newNonlinearStress()),
    closure_(this->coeffDict_, wanted)
{}


template<template<class> class Model, class BasicTurbulenceModel>
autoPtr<volSymmTensorField> closureStress<Model, BasicTurbulenceModel>::newNonlinearStress() const
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


template<template<class> class Model, class BasicTurbulenceModel>
void closureStress<Model, BasicTurbulenceModel>::updateStress(const bool starting)
{
    const volTensorField gradU(fvc::grad(this->U_));
    const symmTensorField D(dev(symm(gradU.primitiveField())));
    const tmp<symmTensorField> stress(tau(gradU.primitiveField(), starting));
    const scalarField power(-(stress() && D));
    const scalarField strain(2*(D && D));

    setNutAtRest();
    scalarField& nut = this->nut_.primitiveFieldRef();
    forAll(nut, celli)
    {
        if (strain[celli] > VSMALL)
        {
            nut[celli] = max(power[celli]/strain[celli], scalar(0));
        }
    }
    this->nut_.correctBoundaryConditions();
    fv::options::New(this->mesh_).correct(this->nut_);
    BasicTurbulenceModel::correctNut();

    if (nonlinearStress_.valid())
    {
        updateNonlinearStress(stress + 2*this->nut_.primitiveField()*D);
    }
}


template<template<class> class Model, class BasicTurbulenceModel>
void closureStress<Model, BasicTurbulenceModel>::updateNonlinearStress(const symmTensorField& nonlinear)
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


template<template<class> class Model, class BasicTurbulenceModel>
void closureStress<Model, BasicTurbulenceModel>::correctNut()
{
    updateStress(false);
}


template<template<class> class Model, class BasicTurbulenceModel>
void closureStress<Model, BasicTurbulenceModel>::validate()
{
    updateStress(true);
}


template<template<class> class Model, class BasicTurbulenceModel>
void closureStress<Model, BasicTurbulenceModel>::report()
{
    if (this->runTime_.writeTime())
    {
        closure_.report();
    }
}


template<template<class> class Model, class BasicTurbulenceModel>
tmp<volSymmTensorField> closureStress<Model, BasicTurbulenceModel>::R() const
{
    tmp<volSymmTensorField> stress(Model<BasicTurbulenceModel>::R());
    if (nonlinearStress_.valid())
    {
        stress.ref() += nonlinearStress_();
    }
    return stress;
}


template<template<class> class Model, class BasicTurbulenceModel>
tmp<volSymmTensorField> closureStress<Model, BasicTurbulenceModel>::devRhoReff() const
{
    tmp<volSymmTensorField> stress(Model<BasicTurbulenceModel>::devRhoReff());
    if (nonlinearStress_.valid())
    {
        stress.ref() += this->rho_*nonlinearStress_();
    }
    return stress;
}


template<template<class> class Model, class BasicTurbulenceModel>
tmp<fvVectorMatrix> closureStress<Model, BasicTurbulenceModel>::divDevRhoReff(volVectorField& U) const
{
    tmp<fvVectorMatrix> viscous(Model<BasicTurbulenceModel>::divDevRhoReff(U));
    return nonlinearStress_.valid() ? fvc::div(this->rho_*nonlinearStress_()) + viscous : viscous;
}


template<template<class> class Model, class BasicTurbulenceModel>
tmp<fvVectorMatrix> closureStress<Model, BasicTurbulenceModel>::divDevRhoReff
(
    const volScalarField& rho,
    volVectorField& U
) const
{
    tmp<fvVectorMatrix> viscous(Model<BasicTurbulenceModel>::divDevRhoReff(rho, U));
    return nonlinearStress_.valid() ? fvc::div(rho*nonlinearStress_()) + viscous : viscous;
}

}  // End namespace Foam
