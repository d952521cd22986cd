// Package discovery finds out what runs in a cluster, so that nobody has to write it down: services, their endpoints, the pods with sidecars, and the rules that users have put there in the words of Istio and the Gateway API. What
// the owner of a run says is laid over it, and the control plane serves both as one configuration.
//
// [Build] is the heart, a pure function from what is there to what sidecars are told. [Informers] keep what is there in memory. [Rules] keep what the owner has said in a Secret, so that a
// control plane that begins anew goes on where the last one stopped. [Plane] puts it together for one [control.Server]. [Reviewer] knows who shows a token, and an [Election] sees to it that one control
// plane acts at a time.
//
// # What it may do
//
// A control plane needs these permissions and no others; it creates and deletes nothing.
//
//   - In each namespace of applications: list and watch services, pods (core), endpointslices (discovery.k8s.io), and, where the API server has them, virtualservices, destinationrules, gateways and serviceentries
//     (networking.istio.io) and gateways, httproutes, grpcroutes and referencegrants (gateway.networking.k8s.io), of which those Gateways count whose class is [GatewayClass]; get the namespace itself, for its labels.
//   - In its own namespace: list and watch pods; get and update the Secret named [names.Rules], and the Lease (coordination.k8s.io) named [names.Control]. Both have to be there, and may be empty.
//   - In the cluster: create tokenreviews (authentication.k8s.io). What the API server has and its version is told to every account by the role system:discovery.
package discovery

import (
	"fmt"
)

// TrustDomain is the trust domain of every identity, Istio's default.
const TrustDomain = "cluster.local"

// Problem is a piece of the configuration that is left out, and why. It is an error.
type Problem struct {
	Object  string // KIND NAMESPACE/NAME of an object; kind and name of a resource of the overlay
	Reason  string
	Overlay bool // the owner has said it; otherwise it was discovered
}

func (p Problem) Error() string { return fmt.Sprintf("%s: %s", p.Object, p.Reason) }
