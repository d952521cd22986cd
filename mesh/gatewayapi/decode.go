package gatewayapi

import "meshtest.dev/meshtest/mesh/document"

// Short names for the words of package document, which says what the tags of the structs mean.
type (
	unhonoured = document.Unhonoured
	duration   = document.Duration
)

var join, index, under, resolve, kindName = document.Join, document.Index, document.Under, document.Resolve, document.KindName
