// Puts the models among those that a case may name.
#include "turbulentTransportModels.H"

#include "hpcsurrogateKEpsilon.H"
#include "hpcsurrogateLES.H"

makeLESModel(hpcsurrogate);
makeRASModel(hpcsurrogateKEpsilon);
