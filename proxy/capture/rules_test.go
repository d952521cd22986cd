package capture

import (
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// goldens are rules, by the names of files with their text.
var goldens = map[string]Rules{
	"default": {},
	"exclusions": {
		InboundPort: 16006, OutboundPort: 16001, Owner: 2000, Group: 3000,
		ExcludeInboundPorts: []int{9090, 22, 22}, ExcludeOutboundPorts: []int{5432, 3306},
		ExcludeOutboundCIDRs: prefixes("10.1.2.3/12", "192.0.2.7/32", "fd00::1/8", "2001:db8::7/128", "198.51.100.0/23"),
		ExcludeUIDs:          []uint32{101, math.MaxUint32 - 1}, ExcludeGIDs: []uint32{102},
	},
}

func TestRulesSayWhatIsRedirected(t *testing.T) {
	t.Parallel()
	for name, rules := range goldens {
		want, err := os.ReadFile(filepath.Join("testdata", name+".nft"))
		require.NoError(t, err)
		require.Equal(t, string(want), rules.String(), name)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, Rules{}.Validate())
	for _, rules := range goldens {
		require.NoError(t, rules.Validate())
	}
	for complaint, rules := range map[string]Rules{
		"excluded inbound port 0 is not":                   {ExcludeInboundPorts: []int{80, 0}},
		"excluded outbound port 65536 is not":              {ExcludeOutboundPorts: []int{65536}},
		"listener port -1 is not":                          {InboundPort: -1},
		"both directions cannot go to port 15001":          {InboundPort: DefaultOutboundPort},
		"an excluded range of addresses is not valid":      {ExcludeOutboundCIDRs: []netip.Prefix{{}}},
		"port 70000 is not between 1 and 65535\nexcluded ": {OutboundPort: 70000, ExcludeInboundPorts: []int{-5}},
	} {
		require.ErrorContains(t, rules.Validate(), complaint)
	}
}
