#include "cli/template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hull::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view kDocument = R"({
  "Id": "abc", "Name": "/web", "Pid": 42, "Ratio": 1.5, "Running": true, "Nothing": null,
  "State": {"Status": "running", "ExitCode": 0},
  "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "443/tcp": null},
  "Cmd": ["sh", "-c", "echo"], "Empty": [], "Labels": {"com.example": "x", "b": "y"}
})";

std::string run(std::string_view text) {
  auto value = Value::parse(kDocument);
  auto parsed = Template::parse(text);
  if (!parsed.ok()) return "ERROR " + parsed.error().message();
  auto out = parsed->execute(*value);
  return out.ok() ? *out : "ERROR " + out.error().message();
}

TEST(Template, Fields) {
  EXPECT_EQ(run("{{.Id}} {{ .State.Status }} {{.Pid}} {{.Ratio}} {{.Running}}"), "abc running 42 1.5 true");
  EXPECT_EQ(run("{{.Nothing}}"), "<no value>");
  EXPECT_EQ(run("{{.Cmd}} {{.Labels}} {{.Ports}}"),
            "[sh -c echo] map[b:y com.example:x] map[443/tcp:<nil> 80/tcp:[map[HostIp:0.0.0.0 HostPort:8080]]]");
  EXPECT_EQ(run("plain"), "plain");
  EXPECT_EQ(run(""), "");
}

TEST(Template, MissingFieldsAreErrors) {
  EXPECT_THAT(run("{{.Missing}}"), HasSubstr("there is no field \"Missing\""));
  EXPECT_THAT(run("{{.Id.Inner}}"), HasSubstr("can't evaluate field Inner"));
  EXPECT_THAT(run("{{.Nothing.Inner}}"), HasSubstr("can't evaluate field Inner in nothing"));
}

TEST(Template, Functions) {
  EXPECT_EQ(run("{{json .State}}"), R"({"Status":"running","ExitCode":0})");
  EXPECT_EQ(run("{{json .Cmd}}"), R"(["sh","-c","echo"])");
  EXPECT_EQ(run("{{join .Cmd \" \"}}"), "sh -c echo");
  EXPECT_EQ(run("{{upper .Id}} {{lower \"ABC\"}} {{title \"a bc\"}}"), "ABC abc A Bc");
  EXPECT_EQ(run("{{len .Cmd}} {{len .Id}} {{len .Labels}}"), "3 3 2");
  EXPECT_EQ(run("{{index .Cmd 1}} {{index .Labels \"com.example\"}}"), "-c x");
  EXPECT_EQ(run("{{(index (index .Ports \"80/tcp\") 0).HostPort}}"), "8080");
  EXPECT_EQ(run("{{index .Ports \"80/tcp\" 0 \"HostIp\"}}"), "0.0.0.0");
  EXPECT_EQ(run("{{split \"a:b:c\" \":\"}}"), "[a b c]");
  EXPECT_EQ(run("{{slice .Id 1}} {{slice .Id 0 2}}"), "bc ab");
  EXPECT_EQ(run("{{truncate .Id 2}}|{{pad .Id 1 2}}|"), "ab| abc  |");
  EXPECT_EQ(run("{{println .Id}}"), "abc\n");
  EXPECT_EQ(run("{{print 1 2 \"x\" 3}}"), "1 2x3");
  EXPECT_EQ(run("{{printf \"%-5s|%5d|%05d|%q|%v|%.1f|%x|%%\" .Id 42 7 \"a\" .Cmd .Ratio 255}}"),
            "abc  |   42|00007|\"a\"|[sh -c echo]|1.5|ff|%");
}

TEST(Template, Comparisons) {
  EXPECT_EQ(run("{{eq .Id \"abc\"}} {{ne .Pid 42}} {{lt .Pid 50}} {{ge .Ratio 1.5}} {{gt 1 2}} {{le \"a\" \"b\"}}"),
            "true false true true false true");
  EXPECT_EQ(run("{{eq .Id \"x\" \"abc\"}}"), "true");
  EXPECT_EQ(run("{{and .Running .Id}} {{or .Nothing \"x\"}} {{not .Running}} {{and 0 .Missing}}"), "abc x false 0");
  EXPECT_THAT(run("{{eq .Id 1}}"), HasSubstr("incompatible types"));
}

TEST(Template, Pipelines) {
  EXPECT_EQ(run("{{.Cmd | json}}"), R"(["sh","-c","echo"])");
  EXPECT_EQ(run("{{.Id | upper | printf \"%s-%s\" \"x\"}}"), "x-ABC");
  EXPECT_EQ(run("{{(len .Cmd) | printf \"%d\"}}"), "3");
}

TEST(Template, Control) {
  EXPECT_EQ(run("{{if .Running}}up{{else}}down{{end}}"), "up");
  EXPECT_EQ(run("{{if .Empty}}some{{else if eq .Pid 42}}forty-two{{else}}none{{end}}"), "forty-two");
  EXPECT_EQ(run("{{range .Cmd}}<{{.}}>{{end}}"), "<sh><-c><echo>");
  EXPECT_EQ(run("{{range .Empty}}x{{else}}empty{{end}}"), "empty");
  EXPECT_EQ(run("{{range $i, $c := .Cmd}}{{if $i}},{{end}}{{$i}}={{$c}}{{end}}"), "0=sh,1=-c,2=echo");
  EXPECT_EQ(run("{{range $port, $bound := .Ports}}{{$port}}{{if $bound}}!{{end}} {{end}}"), "80/tcp! 443/tcp ");
  EXPECT_EQ(run("{{with .State}}{{.Status}}{{$.Id}}{{end}}"), "runningabc");
  EXPECT_EQ(run("{{with .Nothing}}x{{else}}y{{end}}"), "y");
  EXPECT_EQ(run("{{$x := .Id}}{{if true}}{{$x = \"new\"}}{{end}}{{$x}}"), "new");
}

TEST(Template, TrimAndComments) {
  EXPECT_EQ(run("a  {{- .Id -}}  b"), "aabcb");
  EXPECT_EQ(run("a {{/* note }} */}} b"), "a  b");
  EXPECT_EQ(run("a {{- /* note */ -}} b"), "ab");
  EXPECT_EQ(run("{{\"quoted }} text\"}}"), "quoted }} text");
  EXPECT_EQ(run("{{`raw \\n`}}"), "raw \\n");
  EXPECT_EQ(run("{{\"tab\\tx\\u00e9\"}}"), "tab\tx\xc3\xa9");
  EXPECT_EQ(run("{{-3}}"), "-3");
}

TEST(Template, Methods) {
  EXPECT_EQ(run("{{.Labels \"com.example\"}}|{{.Labels \"none\"}}|"), "x||");
  EXPECT_THAT(run("{{.Id 1}}"), HasSubstr("cannot be invoked"));
}

TEST(Template, SyntaxErrors) {
  for (const std::string_view text : {"{{",
                                      "{{.Id",
                                      "{{end}}",
                                      "{{if .Id}}",
                                      "{{range .Cmd}}x",
                                      "{{nofunction .Id}}",
                                      "{{.Id | }}",
                                      "{{\"open}}",
                                      "{{(.Id}}",
                                      "{{.Id)}}",
                                      "{{else}}",
                                      "{{if .Id}}{{else}}{{else}}{{end}}",
                                      "{{$}}{{$x}}",
                                      "{{/* open",
                                      "{{}}",
                                      "{{define \"x\"}}{{end}}",
                                      "{{1x}}",
                                      "{{.Id..Name}}",
                                      "{{end x}}",
                                      "{{$ := 1}}",
                                      "{{\"\\q\"}}"}) {
    EXPECT_THAT(run(text), HasSubstr("ERROR template")) << text;
  }
}

TEST(Template, NestingIsBounded) {
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "{{if .Id}}";
  EXPECT_THAT(run(deep), HasSubstr("nested too deeply"));
  EXPECT_THAT(run("{{" + std::string(100, '(') + ".Id" + std::string(100, ')') + "}}"), HasSubstr("nested too deeply"));
  EXPECT_THAT(run(std::string(100000, 'x')), HasSubstr("64 KiB"));
}

TEST(Template, TellsItsFields) {
  auto parsed = Template::parse("{{.ID}} {{range .Ports}}{{.Number}}{{end}} {{json .Labels}}");
  ASSERT_TRUE(parsed.ok());
  EXPECT_THAT(parsed->fields(), ElementsAre("ID", "Ports", "Number", "Labels"));
}

TEST(Value, ParseAndDump) {
  auto value = Value::parse(R"({"b": [1, 2.5, "x\n\u0001", true, null], "a": {}})");
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(value->dump(), R"({"b":[1,2.5,"x\n\u0001",true,null],"a":{}})");
  EXPECT_EQ(Value::object().set("k", Value::array().push(1)).dump(4), "{\n    \"k\": [\n        1\n    ]\n}");
  EXPECT_FALSE(Value::parse("{").ok());
  EXPECT_FALSE(Value::parse("").ok());
  EXPECT_FALSE(Value::parse(std::string(100, '[') + std::string(100, ']')).ok());
  EXPECT_EQ(json_string("a\xff"), "\"a\\ufffd\"");
}

}  // namespace
}  // namespace hull::cli
