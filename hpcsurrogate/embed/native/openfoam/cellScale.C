#include "cellScale.H"

namespace
{

//- Mean over a face of (x - centre)(x - centre), exact if the face is plane
Foam::symmTensor momentOf(const Foam::face& f, const Foam::pointField& points, const Foam::point& centre)
{
    Foam::symmTensor sum(Foam::Zero);
    Foam::scalar area = 0;
    forAll(f, i)
    {
        const Foam::vector p(points[f[i]] - centre);
        const Foam::vector q(points[f.nextLabel(i)] - centre);
        const Foam::scalar triangle = 0.5*mag(p ^ q);
        sum += triangle/12*(sqr(p) + sqr(q) + sqr(p + q));
        area += triangle;
    }
    return sum/area;
}


//- Symmetric root of a positive tensor by the iteration of Denman and Beavers, which equal eigenvalues do not disturb
Foam::symmTensor rootOf(const Foam::symmTensor& square)
{
    const Foam::scalar size = tr(square)/3;
    Foam::symmTensor root(square/size), inverse(Foam::symmTensor::I);
    for (int i = 0; i < 60; ++i)  // a cell a million times as long as wide takes 30
    {
        const Foam::symmTensor next(0.5*(root + inv(inverse)));
        inverse = 0.5*(inverse + inv(root));
        const bool done = mag(next - root) < 1e-15*mag(next);
        root = next;
        if (done)
        {
            break;
        }
    }
    return Foam::sqrt(size)*root;
}

}  // End namespace


Foam::cellScale::cellScale(const fvMesh& mesh)
:
    mesh_(mesh),
    scale_(mesh.nCells())
{
    update();
}


void Foam::cellScale::update()
{
    const cellList& cells = mesh_.cells();
    const vectorField& faceCentres = mesh_.faceCentres();
    symmTensorField ofFaces(mesh_.nFaces());
    forAll(ofFaces, facei)
    {
        ofFaces[facei] = momentOf(mesh_.faces()[facei], mesh_.points(), faceCentres[facei]);
    }
    scale_.setSize(mesh_.nCells());
    forAll(cells, celli)
    {
        // The divergence of y_i y_j y is 5 y_i y_j: an integral over the faces, on each of which y & S is constant.
        symmTensor integral(Zero);
        for (const label facei : cells[celli])
        {
            const vector d(faceCentres[facei] - mesh_.cellCentres()[celli]);
            const scalar outwards = mesh_.faceOwner()[facei] == celli ? 1 : -1;
            integral += outwards*(mesh_.faceAreas()[facei] & d)/5*(ofFaces[facei] + sqr(d));
        }
        const scalar volume = mesh_.cellVolumes()[celli];
        scale_[celli] = rootOf(12/volume*integral)/cbrt(volume);
    }
}


Foam::tmp<Foam::tensorField> Foam::cellScale::scaled(const tensorField& gradU)
{
    if (mesh_.changing())
    {
        update();
    }
    return scale_ & gradU;
}
