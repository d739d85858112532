"""What the requests of the comparison with Envoy are made of: texts as they are sent."""

from __future__ import annotations

# Asked for with GET, without a body.
PATHS = (
    "/", "/v1", "/nowhere", "//v1/find", "/v1//find", "/v1/find/", "/v1/find//", "/v1/find/x", "/V1/find", "/v1/Find",
    "/v1/fi%6Ed", "/v1%2Ffind", "/v1/find:", "/v1/find:x", "/v1/find;x", "/v1/find?", "/v1/./find", "/v1/x/../find",
    "/v1/jars", "/v1/jars/", "/v1/jars//", "/v1/jars/first", "/v1/jars/second", "/v1/jars/first/", "/v1/jars/f%69rst",
    "/v1/jars/a/b", "/v1/jars/a:open", "/v1/jars/first:open", "/v1/jars/:open", "/v1/jars/a:b:open",
    "/v1/jars/a:shut", "/v1/jars/a%3Aopen", "/v1/jars/a:op%65n", "/v1/jars/a:open/", "/v1/jars:count",
    "/v1/jars:other", "/v1/jars:count/", "/v1/jars/:count", "/v1/jars/a:", "/v1/files", "/v1/files/", "/v1/files/a",
    "/v1/files/a/b/c", "/v1/files/a//b", "/v1/files//a", "/v1/files/a/", "/v1/files/a/b//", "/v1/files/a:stat",
    "/v1/files/a/b:stat", "/v1/files:stat", "/v1/files/:stat", "/v1/files/a:b/c:stat", "/v1/files/a:b/c",
    "/v1/files/a%2Fb/c", "/v1/files/a%2fb", "/v1/files/a%252Fb", "/v1/files/a%20b/c%3Fd", "/v1/files/a+b",
    "/v1/files/a%3Astat", "/v1/rooms/1/racks/2", "/v1/rooms/1/racks", "/v1/rooms/1/racks/2/3",
    "/v1/rooms/a%2Fb/racks/c%20d", "/v1/rooms//racks/2", "/v1/rooms/1/boxes/2", "/v1/rooms/1/boxes/2/3/4",
    "/v1/rooms/1/boxes", "/v1/rooms/1/boxes/2%2F3/4", "/v1/cellar/1/wine/x/y", "/v1/cellar/1/wine", "/v1/cellar/1",
    "/v1/cellar//wine/x", "/v1/shelves/1/books", "/v1/shelves/1/books/2", "/v1/shelves/1/books/2/3",
    "/v1/shelves/books", "/v1/nested/a/5", "/v1/nested/a/x", "/v1/nested/a/5?nested.name=b",
    "/v1/nested/a%2Fb/5?nested.inner.size=1", "/v1/any/x", "/v1/jars/%E2%82%AC", "/v1/jars/%FF", "/v1/jars/%",
    "/v1/jars/%4", "/v1/jars/%zz", "/v1/files/%zz/a", "/v1/jars/%00", "/v1/jars/a%0Ab", "/v1/jars/a%20b",
    "/v1/jars/a+b", "/v1/jars/a%2Bb", "/v1/jars/.", "/v1/jars/..", "/v1/jars/~a!$&'()*+,;=@", "/v1/jars/%2525",
    "/v1/jars/a%26b?nested.name=c", "/v1/jars/a%2Fb", "/v1/jars/a?name=b", "/v1/jars/a?name=a",
    "/v1/jars/a?nested.size=3", "/v1/jars/*", "/v1/jars/**", "/v1/jars/{name}",
)  # fmt: skip

# Every other method, of each of these paths.
METHODS = (
    "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "MERGE", "TRACE",
)  # fmt: skip

PATHS_OF_METHODS = (
    "/v1/jars/a", "/v1/any/a", "/v1/find", "/v1/jars/a:fill", "/v1/tables/t:merge", "/v1/tables/t/order", "/none",
)  # fmt: skip

# What a variable or a parameter of any kind may have to understand.
TEXTS = (
    "", "0", "1", "-1", "5", "007", "+5", " 5", "5 ", "5.0", "5.5", "1e2", "1e-1", "0x10", "1_0", "2147483647",
    "2147483648", "-2147483648", "-2147483649", "4294967295", "4294967296", "9223372036854775807",
    "9223372036854775808", "-9223372036854775808", "18446744073709551615", "18446744073709551616", "1.5", ".5", "5.",
    "1e400", "3.5e38", "NaN", "nan", "Infinity", "-Infinity", "inf", "-0", "true", "false", "True", "TRUE", "t",
    "yes", "null", "COLOR_RED", "color_red", "COLOR_NONE", "77", "abc", "YWJj", "YQ==", "YQ", "_-8", "+/8=", "a%b",
    "ä€", "a b", "2026-02-10T11:00:00Z", "2026-02-10T11:00:00.5+02:00", "2026-02-10", "1.5s", "-0.25s", "1", "a,bC.d",
    "a_b", "{}", "[]",
)  # fmt: skip

# The last but one segments of the paths that end in a variable of each kind of scalar.
VARIABLES = (
    "string", "bytes", "bool", "int32", "int64", "uint32", "uint64", "float", "double", "color", "choice",
)  # fmt: skip

# Query strings of GET /v1/pantry.
QUERIES = (
    "string_field=a&stringField=b", "string_field=a&string_field=b", "stringField=a&stringField=a", "stringField",
    "stringField=", "=a", "&", "&&stringField=a&", "stringField=a=b", "stringField=a%3Db", "stringField=%26",
    "string%46ield=a", "stringField=%", "stringField=%4", "stringField=%zz", "stringField=%FF",
    "stringField=a;int32Field=5", "strings=a&strings=b", "strings=a,b", "strings=", "strings[]=a", "strings[0]=a",
    "strings.0=a", "int32s=1&int32s=2", "int32s=1&int32s=x", "colors=COLOR_RED&colors=2", "colors=1,2",
    "blobs=YQ%3D%3D&blobs=Yg", "doubles=1.5&doubles=NaN", "nested.name=a&nested.size=5", "nested.inner.inner.name=a",
    "nested.name=a&nested.name=b", "nested=a", "nested={}", "nested.=a", ".nested=a", "nested..name=a",
    "nested.nope=a", "nested.children.name=a", "nesteds.name=a", "nesteds=a", "string_map.a=b", "stringMap=a",
    "string_map[a]=b", "choiceString=a", "choiceString=a&choiceInt=5", "choiceInt=5&choiceNested.name=a", "choice=a",
    "choiceNested.name=a", "time=2026-02-10T11:00:00Z", "time.seconds=5", "time=2026-02-10T11:00:00Z&time.nanos=5",
    "duration=1.5s", "duration.seconds=1", "mask=a,b.c", "mask=stringField", "mask=string_field", "mask.paths=a",
    "mask.paths=a&mask.paths=b", "struct.fields.a=b", "struct={}", "value=5", "value.numberValue=5",
    "value.stringValue=a", "list=1", "empty=", "empty={}", "doubleValue=1.5", "int64Value=5", "int64Value=x",
    "boolValue=true", "stringValue=a", "bytesValue=YQ", "int64Value.value=5", "stringValue.value=a", "stringValues=a",
    "from=a", "class.name=a", "renamed=a", "another=a", "optionalString=", "optionalInt64=0", "optionalBool=false",
    "optional_double=0", "optionalColor=COLOR_UNSPECIFIED", "int32Field=0", "nope=a", "stringField=a&nope=b",
    "STRINGFIELD=a", "stringfield=a", "_stringField=a", "$alt=json", "nullField=0", "nullField=NULL_VALUE",
    "nullField=null", "color=COLOR_AZURE", "color=-1", "nested.size=1&nested.name=a&nested.inner.size=2",
    "times=2026-02-10T11:00:00Z", "values=1", "int_map=1", "string_field=%E2%82%AC", "string_field=a%20b+c%2Bd",
)  # fmt: skip

# JSON that a field of any kind may be given.
VALUES = (
    "null", "true", "false", "0", "1", "-1", "2", "77", "-0", "1.0", "1.5", "-0.0", "1e2", "1e-1", "1e10", "1e40",
    "1e400", "3.4028235e38", "3.5e38", "2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295",
    "4294967296", "9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551615",
    "18446744073709551616", '""', '"x"', '"5"', '"-5"', '"+5"', '" 5"', '"007"', '"1.0"', '"1.5"', '"1e2"', '"NaN"',
    '"Infinity"', '"-Infinity"', '"nan"', '"true"', '"null"', '"9223372036854775808"', '"COLOR_RED"', '"color_red"',
    '"COLOR_NONE"', '"NULL_VALUE"', '"YWJj"', '"YQ=="', '"YQ"', '"YQ="', '"_-8"', '"+/8="', '"a b"',
    '"\\u20ac\\u0000"', '"\\ud83d\\ude00"', '"2026-02-10T11:00:00Z"', '"2026-02-10T11:00:00.5+02:00"',
    '"2026-02-10t11:00:00z"', '"2026-02-10 11:00:00Z"', '"2026-02-10T11:00:00"', '"2026-13-10T11:00:00Z"',
    '"2026-02-10T11:00:00.1234567891Z"', '"0000-01-01T00:00:00Z"', '"9999-12-31T23:59:59.999999999Z"', '"1.5s"',
    '"-0.25s"', '"1"', '"1.s"', '"315576000001s"', '"a,bC.d"', '"a_b"', "[]", "[null]", "[1]", "[1,2]", '["x"]',
    '["5"]', "[{}]", "[[]]", "{}", '{"name":"x"}', '{"name":null}', '{"1":2}', '{"true":1}', '{"x":1}', '{"a":"b"}',
    '{"a":null}', '{"a":{"b":[1,null]}}', '{"value":5}', '{"seconds":5}', '{"nope":1}', '{"a":1,"a":2}',
    '{"name":"x","size":"5","inner":{"name":"y"}}',
)  # fmt: skip

# Bodies of POST /v1/everything.
BODIES = (
    "", " ", "{", "}", "{}", " {} ", "[]", "null", "5", '"x"', "true", "{}{}", "{} x", "{,}", '{"a"}',
    "{int32Field:5}", "{'int32Field':5}", '{"int32Field":5,}', '{"int32Field":05}', '{"int32Field":+5}',
    '{"int32Field":.5}', '{"int32Field":5.}', '{"int32Field":0x5}', '{"int32Field":NaN}', '{"doubleField":NaN}',
    '{"doubleField":Infinity}', '{"stringField":"\t"}', '{"stringField":"\\x"}', '{"stringField":"\\u12"}',
    '{"stringField":"\\ud800"}', '{"stringField":\'x\'}', '{"stringField":"é"}', '{"int32Field":5}//x',
    '{/*x*/"int32Field":5}', '\ufeff{"int32Field":5}', '{"int32Field":1,"int32Field":2}',
    '{"int32Field":1,"int32_field":2}', '{"int32_field":2,"int32Field":1}', '{"int32Field":1,"int32Field":null}',
    '{"nested":{"name":"a"},"nested":{"size":5}}', '{"strings":["a"],"strings":["b"]}',
    '{"stringMap":{"a":"1"},"stringMap":{"b":"2"}}', '{"choiceString":"a","choiceInt":5}',
    '{"choiceString":"a","choiceInt":null}', '{"choiceString":null,"choiceInt":null}',
    '{"choiceNested":{},"choiceBool":false}', '{"nope":1}', '{"nope":null}', '{"nested":{"nope":1}}', '{"":1}',
    '{"INT32FIELD":5}', '{"another":"x"}', '{"renamed":"x"}', '{"from":"x","class":{"name":"y"}}', '{"@type":"x"}',
    '{"[kitchen.v1.x]":1}', '{"int32Field" : 5 }', '\n{"int32Field":\r\n5}\n', '{"intMap":{"1":"2","-3":4}}',
    '{"intMap":{"x":1}}', '{"intMap":{"1.0":1}}', '{"intMap":{"01":1}}', '{"intMap":{"2147483648":1}}',
    '{"boolMap":{"true":1,"false":2.5}}', '{"boolMap":{"1":1}}', '{"boolMap":{"TRUE":1}}',
    '{"nestedMap":{"a":{"name":"b"},"c":{}}}', '{"nestedMap":{"a":null}}', '{"colorMap":{"1":"COLOR_RED","2":77}}',
    '{"colorMap":{"1":"COLOR_NONE"}}', '{"colorMap":{"-1":1}}', '{"valueMap":{"a":null,"b":[1,{"c":true}]}}',
    '{"stringMap":{"a":5}}', '{"stringMap":{"":""}}', '{"stringMap":[]}', '{"stringMap":{"a":"1","a":"2"}}',
    '{"struct":{"a":1,"b":{"c":[null,true,"x",1.5]}}}', '{"struct":null}', '{"value":null}',
    '{"values":[null,1,"x",[],{}]}', '{"list":[1,[2,[3]]]}', '{"empty":{}}', '{"empty":{"x":1}}', '{"empty":null}',
    '{"nested":{"inner":{"inner":{"inner":{"inner":{"name":"deep"}}}}}}',
    '{"nesteds":[{"children":[{"children":[{"size":1}]}]}]}', '{"times":["2026-02-10T11:00:00Z",null]}',
    '{"stringValues":["a",null,""]}',
    '{"int64Value":"5","boolValue":false,"stringValue":"","bytesValue":"YQ==","doubleValue":"NaN"}',
    '{"mask":"a.b,cD"}', '{"mask":""}', '{"mask":{"paths":["a"]}}', '{"duration":"0.000000001s"}',
    '{"optionalString":"","optionalInt64":0,"optionalBool":false,"optionalDouble":0,"optionalColor":0}',
    '{"optionalString":null}', '{"floats":["NaN",1.5,"Infinity",1e38]}', '{"uint64s":["18446744073709551615",0]}',
    '{"floatField":-3.4028235e38}', '{"floatField":3.40282347e+38}', '{"floatField":3.4028236e38}',
    '{"floatField":0.1}', '{"floatField":16777217}', '{"doubleField":0.1}', '{"doubleField":1e-320}',
    '{"doubleField":1e308}', '{"stringField":"<>&\'/\\u2028"}', '{"int32Field":1e400}', '{"mask":"Abc"}',
    '{"stringMap":{"a":{"b":1}}}',
)  # fmt: skip

# The last segments of the paths whose body is one field.
PARTS = (
    "map", "messages", "message", "time", "value", "struct", "wrapper", "long", "color",
)  # fmt: skip
