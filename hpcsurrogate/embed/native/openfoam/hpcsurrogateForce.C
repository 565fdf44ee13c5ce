#include "hpcsurrogateForce.H"

#include "addToRunTimeSelectionTable.H"
#include "fvMatrices.H"
#include "fvcGrad.H"

namespace Foam
{
namespace fv
{
    defineTypeNameAndDebug(hpcsurrogateForce, 0);
    addToRunTimeSelectionTable(option, hpcsurrogateForce, dictionary);
}
}


Foam::fv::hpcsurrogateForce::hpcsurrogateForce
(
    const word& name,
    const word& modelType,
    const dictionary& dict,
    const fvMesh& mesh
)
:
    cellSetOption(name, modelType, dict, mesh),
    closure_(coeffs_, pointwiseClosure::force),
    starting_(true)
{
    fieldNames_ = wordList(1, coeffs_.lookupOrDefault<word>("U", "U"));
    applied_.setSize(1, false);
}


void Foam::fv::hpcsurrogateForce::addSup(fvMatrix<vector>& eqn, const label)
{
    const volVectorField& U = eqn.psi();
    const tmp<volTensorField> gradU(fvc::grad(U));
    volVectorField::Internal force
    (
        IOobject(name_ + "Force", mesh_.time().timeName(), mesh_),
        mesh_,
        dimensionedVector(dimAcceleration, Zero)
    );
    UIndirectList<vector>(force, cells_) = closure_.acceleration
    (
        vectorField(U.primitiveField(), cells_),
        tensorField(gradU().primitiveField(), cells_),
        cbrt(scalarField(mesh_.V(), cells_)),
        starting_
    )();
    starting_ = false;
    eqn += force;
    if (mesh_.time().writeTime())
    {
        closure_.report();
    }
}


void Foam::fv::hpcsurrogateForce::addSup(const volScalarField&, fvMatrix<vector>&, const label)
{
    FatalErrorInFunction
        << name_ << ": hpcsurrogateForce is for incompressible solvers; take it out of fvOptions" << exit(FatalError);
}


void Foam::fv::hpcsurrogateForce::addSup
(
    const volScalarField&,
    const volScalarField& rho,
    fvMatrix<vector>& eqn,
    const label fieldi
)
{
    addSup(rho, eqn, fieldi);
}
