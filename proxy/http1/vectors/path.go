package vectors

// Paths gives all vectors of path normalisation.
func Paths() []Path {
	same := func(p string) Path { return Path{In: p, Want: [4]string{p, p, p, p}} }
	from1 := func(in, base string) Path { return Path{In: in, Want: [4]string{in, base, base, base}} }
	merged := func(in, base, merge string) Path { return Path{In: in, Want: [4]string{in, base, merge, merge}} }
	refused := func(in, reason string) Path { return Path{In: in, Reason: reason} }
	return []Path{
		same("/"), same("/a"), same("/a/b/"), same("/.a"), same("/a./b"), same("/..."), same("/a/..;/b"), same("/a%20b"), same("/%C3%A9"), same("/a%252e"), same("/%25"),
		same("/a;b=c/d"), same("/%3F%23"), same("/.well-known/x"), same("*"), same("/a/.../b"),
		from1("/%61%7e%2D", "/a~-"), from1("/%c3%a9", "/%C3%A9"), from1("/%3a%3A", "/%3A%3A"), from1("/%5B", "/%5B"),
		from1("/.", "/"), from1("/..", "/"), from1("/./", "/"), from1("/../", "/"), from1("/a/.", "/a/"), from1("/a/..", "/"), from1("/a/../", "/"), from1("/a/b/..", "/a/"),
		from1("/a/./b", "/a/b"), from1("/a/../b", "/b"), from1("/a/b/../../c", "/c"), from1("/../../../etc/passwd", "/etc/passwd"), from1("/a/b/c/./../../g", "/a/g"),
		from1("/%2e/a", "/a"), from1("/a/%2e%2e/b", "/b"), from1("/a/.%2E/b", "/b"), from1("/%2e%2e", "/"), from1("/public/%2e%2e/admin", "/admin"),
		merged("//", "//", "/"), merged("//a", "//a", "/a"), merged("/a//b", "/a//b", "/a/b"), merged("/a///b//", "/a///b//", "/a/b/"), merged("/a//../b", "/a/b", "/a/b"), merged("/a/.//b", "/a//b", "/a/b"),
		{In: "/a%2fb", Want: [4]string{"/a%2fb", "/a%2Fb", "/a%2Fb", "/a/b"}},
		{In: "/a%5cb", Want: [4]string{"/a%5cb", "/a%5Cb", "/a%5Cb", "/a/b"}},
		{In: "/a%2F..%2Fb", Want: [4]string{"/a%2F..%2Fb", "/a%2F..%2Fb", "/a%2F..%2Fb", "/b"}},
		{In: "/a/%2e%2e%2fb", Want: [4]string{"/a/%2e%2e%2fb", "/a/..%2Fb", "/a/..%2Fb", "/b"}},
		{In: "/%2f%2f%5C", Want: [4]string{"/%2f%2f%5C", "/%2F%2F%5C", "/%2F%2F%5C", "/"}},
		{In: "/a%252fb", Want: [4]string{"/a%252fb", "/a%252fb", "/a%252fb", "/a%252fb"}},
		refused("/%", "path_escape_invalid"), refused("/%a", "path_escape_invalid"), refused("/%ag", "path_escape_invalid"), refused("/%%41", "path_escape_invalid"), refused("/a%2", "path_escape_invalid"),
		refused("/%00", "path_nul"), refused("/a%00/b", "path_nul"), refused("/a\\b", "path_backslash"), refused("/..\\x", "path_backslash"),
	}
}
