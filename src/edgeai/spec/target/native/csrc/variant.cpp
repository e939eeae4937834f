// The forward pass and the draft head for one instruction set: compiled once for each, with its own flags and its own namespace.
#include "forward.h"
#include "head_pass.h"

namespace edgeai {

#define EDGEAI_JOIN(a, b) a##b
#define EDGEAI_FACTORY(name) EDGEAI_JOIN(variant_, name)
#define EDGEAI_TEXT(name) #name
#define EDGEAI_NAME(name) EDGEAI_TEXT(name)

const Variant* EDGEAI_FACTORY(EDGEAI_NAMESPACE)() {
    static const Variant variant{EDGEAI_NAME(EDGEAI_NAMESPACE), EDGEAI_NAMESPACE::run, EDGEAI_NAMESPACE::reserve,
                                 EDGEAI_NAMESPACE::draft, EDGEAI_NAMESPACE::reserve_draft, EDGEAI_NAMESPACE::multiply_alone};
    return &variant;
}

}  // namespace edgeai
