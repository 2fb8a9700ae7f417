#!/usr/bin/env python3
"""server_test.py PORT [KEY]   build/server, which server_test.sh has started with a toy that has a chat template and 2,048 tokens of
context, seen through the openai package. The toy writes nonsense: what is tested is the form."""
import base64
import json
import struct
import sys
import threading

import openai

from check import check, report

port, key = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "none"
client = openai.OpenAI(base_url="http://127.0.0.1:%s/v1" % port, api_key=key, max_retries=0, timeout=60)
MODEL = client.models.list().data[0].id
TALK = [{"role": "system", "content": "You are a toy."}, {"role": "user", "content": "Roll two dice — é."}]
DICE = {"type": "function", "function": {"name": "roll_dice", "description": "Rolls dice.", "parameters": {
    "type": "object", "properties": {"count": {"type": "integer", "minimum": 1, "maximum": 9}, "why": {"type": "string", "maxLength": 5}},
    "required": ["count", "why"], "additionalProperties": False}}}
BAG = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"item": {"enum": ["rope", "coin"]}},
                                                                     "required": ["item"], "additionalProperties": False}}}


def refused(status, what, **kwargs):
    create = kwargs.pop("create", client.chat.completions.create)
    try:
        create(**{"model": MODEL, **kwargs})
        check(False, what + ": taken")
    except openai.APIStatusError as e:
        check(e.status_code == status and e.body and e.body.get("message"), what, e.status_code, e.body)
        return e.body
    return {}


def streamed(**kwargs):
    """The pieces of a streamed chat: content, reason, calls, usage, chunks."""
    text, reasons, calls, usage, chunks = "", [], [], None, []
    for chunk in client.chat.completions.create(model=MODEL, stream=True, **kwargs):
        chunks.append(chunk)
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            calls += choice.delta.tool_calls or []
            reasons.append(choice.finish_reason)
    return text, reasons, calls, usage, chunks


def test_models():
    check(client.models.retrieve(MODEL).id == MODEL, "models.retrieve")
    try:
        client.models.retrieve("none")
        check(False, "a model that is not there")
    except openai.NotFoundError:
        check(True, "")
    if key != "none":
        try:
            openai.OpenAI(base_url=client.base_url, api_key="wrong", max_retries=0).models.list()
            check(False, "a wrong key")
        except openai.AuthenticationError:
            check(True, "")


def test_chat():
    one = client.chat.completions.create(model=MODEL, messages=TALK, max_tokens=20, seed=1)
    m = one.choices[0]
    check(one.object == "chat.completion" and m.message.role == "assistant" and m.message.content and m.finish_reason == "length", "chat", one)
    check(one.usage.completion_tokens == 20 and one.usage.total_tokens == one.usage.prompt_tokens + 20, "usage", one.usage)
    check(m.logprobs is None and m.message.tool_calls is None, "neither logprobs nor calls", m)
    again = client.chat.completions.create(model="another", messages=TALK, max_completion_tokens=20, seed=1)
    check(again.choices[0].message.content == m.message.content, "the same seed: the same text", again.choices[0].message.content)
    check(again.usage.prompt_tokens_details.cached_tokens > 10, "the second time the prompt is known", again.usage)
    other = client.chat.completions.create(model=MODEL, messages=TALK, max_tokens=20, seed=2)
    check(other.choices[0].message.content != m.message.content, "another seed: another text")
    free = [client.chat.completions.create(model=MODEL, messages=TALK, max_tokens=20).choices[0].message.content for _ in range(2)]
    check(free[0] != free[1], "without a seed: another text each time", free)
    text, reasons, calls, usage, chunks = streamed(messages=TALK, max_tokens=20, seed=1, stream_options={"include_usage": True})
    check(text == m.message.content, "streamed: the same text", text, m.message.content)
    check(chunks[0].choices[0].delta.role == "assistant", "the first event has the role", chunks[0])
    check(reasons[-1] == "length" and not any(reasons[:-1]), "one reason, in the last event that has a choice", reasons)
    check(usage.completion_tokens == 20 and not chunks[-1].choices, "usage comes last, without a choice", chunks[-1])
    check(streamed(messages=TALK, max_tokens=3)[3] is None, "no usage unless asked for")
    parts = [{"role": "system", "content": [{"type": "text", "text": "You are "}, {"type": "text", "text": "a toy."}]}, TALK[1]]
    check(client.chat.completions.create(model=MODEL, messages=parts, max_tokens=20, seed=1).choices[0].message.content == m.message.content, "content in parts")
    developer = [{"role": "developer", "content": "You are a toy."}, TALK[1]]
    check(client.chat.completions.create(model=MODEL, messages=developer, max_tokens=20, seed=1).choices[0].message.content == m.message.content, "developer is system")
    refused(400, "n is 2", messages=TALK, n=2)
    refused(400, "an image", messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}])
    refused(400, "no messages", messages=[])
    body = refused(400, "a prompt too long", messages=[{"role": "user", "content": "name: x " * 5000}])
    check(body.get("code") == "context_length_exceeded", "a prompt too long has a code", body)
    stop = m.message.content[5:7]
    cut = client.chat.completions.create(model=MODEL, messages=TALK, max_tokens=20, seed=1, stop=stop)
    check(cut.choices[0].finish_reason == "stop" and cut.choices[0].message.content == m.message.content[:m.message.content.find(stop)], "stop", cut, stop)


def test_bytes():
    """Random weights write broken UTF-8: events are JSON all the same, and the text is that of the answer at once."""
    for seed in range(6):
        kwargs = dict(messages=TALK, max_tokens=120, seed=seed, temperature=2, top_p=1)
        one = client.chat.completions.create(model=MODEL, **kwargs).choices[0]
        text, reasons, *_ = streamed(**kwargs)
        check(text == one.message.content and reasons[-1] == one.finish_reason, "bytes, streamed", text, one.message.content)
        two = client.completions.create(model=MODEL, prompt="{\"name", max_tokens=120, seed=seed, temperature=2, logprobs=2).choices[0]
        check(len(two.logprobs.tokens) == len(two.logprobs.token_logprobs) == len(two.logprobs.text_offset) == len(two.logprobs.top_logprobs), "a list each", two.logprobs)


    ids = {}
    for i in range(300):                                # which token is which byte?
        row = client.chat.completions.create(model=MODEL, messages=TALK, max_tokens=1, temperature=0, logit_bias={str(i): 100}, logprobs=True).choices[0].logprobs.content
        if row and len(row[0].bytes) == 1:
            ids.setdefault(row[0].bytes[0], i)
    check(len(ids) >= 256, "tokens of one byte", len(ids))
    for first in (0xF0, 0x9F, 0xC0, 0x80, 0xED, 0xA0, 0xE2, 0xFF):
        kwargs = dict(max_tokens=4, temperature=0, logit_bias={str(ids[first]): 100})
        one = client.chat.completions.create(model=MODEL, messages=TALK, logprobs=True, **kwargs).choices[0]
        check(one.finish_reason == "length" and one.message.content in ("\ufffd" * 4, "\ufffd" * 3), "a stray byte is U+FFFD, once", hex(first), one.message.content)
        check([t.bytes for t in one.logprobs.content] == [[first]] * 4, "its true byte", hex(first), one.logprobs)
        check(streamed(messages=TALK, **kwargs)[0] == one.message.content, "streamed", hex(first))
        check(client.completions.create(model=MODEL, prompt="x", **kwargs).choices[0].text == one.message.content, "the other route", hex(first))


def test_turns():
    """A conversation that goes on is not computed again, and another one between its turns does not matter."""
    talk, before = [{"role": "system", "content": "You are a toy, and toys say little; " * 6}], 1
    for turn in range(3):
        talk.append({"role": "user", "content": "roll %d" % turn})
        one = client.chat.completions.create(model=MODEL, messages=talk, max_tokens=12, seed=turn)
        client.chat.completions.create(model=MODEL, messages=TALK, max_tokens=3)
        usage = one.usage
        check(usage.prompt_tokens_details.cached_tokens >= before - 1, "turn %d" % turn, usage)
        before = usage.prompt_tokens
        talk.append({"role": "assistant", "content": one.choices[0].message.content})


def test_logprobs():
    chat = client.chat.completions.create(model=MODEL, messages=TALK, max_tokens=12, seed=1, logprobs=True, top_logprobs=3).choices[0]
    content = chat.logprobs.content
    check(len(content) == 12, "a row for each token", content)
    for row in content:
        check(len(row.top_logprobs) == 3 and all(t.logprob <= 0 for t in row.top_logprobs) and row.logprob <= row.top_logprobs[0].logprob, "three likeliest", row)
        check(bytes(row.bytes).decode(errors="replace") == row.token, "the true bytes", row)
        check(sorted((t.logprob for t in row.top_logprobs), reverse=True) == [t.logprob for t in row.top_logprobs], "likeliest first", row)
    text = b"".join(bytes(row.bytes) for row in content)
    check(chat.message.content.rstrip("\ufffd") in text.decode(errors="replace"), "the tokens are the text", text, chat.message.content)
    bare = client.chat.completions.create(model=MODEL, messages=TALK, max_tokens=12, seed=1, logprobs=True).choices[0]
    check([r.logprob for r in bare.logprobs.content] == [r.logprob for r in content] and all(r.top_logprobs == [] for r in bare.logprobs.content), "none asked for: []")
    rows = [r for c in streamed(messages=TALK, max_tokens=12, seed=1, logprobs=True, top_logprobs=3)[4] if c.choices and c.choices[0].logprobs for r in c.choices[0].logprobs.content]
    check(rows == content, "streamed: the same rows", len(rows), len(content))
    text = client.completions.create(model=MODEL, prompt="name: x", max_tokens=6, seed=1, logprobs=3).choices[0]
    check(len(text.logprobs.tokens) == 6 and all(len(t) == 3 for t in text.logprobs.top_logprobs) and text.logprobs.text_offset[0] == 0, "completions", text.logprobs)
    refused(400, "top_logprobs alone", messages=TALK, top_logprobs=2)
    refused(400, "too many", messages=TALK, logprobs=True, top_logprobs=21)


def test_tools():
    for choice, names in (("required", {"roll_dice", "look"}), ({"type": "function", "function": {"name": "look"}}, {"look"})):
        for seed in range(4):
            kwargs = dict(messages=TALK, tools=[DICE, BAG], tool_choice=choice, max_tokens=200, seed=seed, temperature=1.5)
            one = client.chat.completions.create(model=MODEL, **kwargs).choices[0]
            check(one.finish_reason == "tool_calls" and len(one.message.tool_calls) == 1 and one.message.content is None, "a call", one)
            call = one.message.tool_calls[0]
            args = json.loads(call.function.arguments)
            good = 1 <= args["count"] <= 9 and len(args["why"]) <= 5 if call.function.name == "roll_dice" else args["item"] in ("rope", "coin")
            check(call.function.name in names and call.type == "function" and call.id and good, "of its schema", call)
            text, reasons, calls, _, _ = streamed(**kwargs)
            check(reasons[-1] == "tool_calls" and text == "" and len(calls) == 1 and calls[0].function.arguments == call.function.arguments, "streamed", text, reasons, calls)
            back = TALK + [one.message, {"role": "tool", "tool_call_id": call.id, "content": "{\"sum\": 7}"}]
            two = client.chat.completions.create(model=MODEL, messages=back, tools=[DICE, BAG], max_tokens=20, seed=seed).choices[0]
            check(two.finish_reason in ("length", "stop", "tool_calls"), "with the result", two)
    auto = [client.chat.completions.create(model=MODEL, messages=TALK, tools=[DICE], max_tokens=20, seed=s).choices[0] for s in range(4)]
    check(all(c.message.content or c.message.tool_calls for c in auto), "auto: an answer or a call", auto)
    none = client.chat.completions.create(model=MODEL, messages=TALK, tools=[DICE], tool_choice="none", max_tokens=20, seed=1).choices[0]
    plain = client.chat.completions.create(model=MODEL, messages=TALK, max_tokens=20, seed=1).choices[0]
    check(none.message.content == plain.message.content, "none: as without tools", none)
    refused(400, "a tool that is not there", messages=TALK, tools=[DICE], tool_choice={"type": "function", "function": {"name": "x"}})
    refused(400, "a schema that does not compile", messages=TALK, tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"not": {}}}}}}])
    refused(400, "a name with blanks", messages=TALK, tools=[{"type": "function", "function": {"name": "a b"}}])
    refused(400, "arguments that are no JSON", messages=[{"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}]}])


def test_form():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "yé"]}}, "required": ["a", "b"], "additionalProperties": False}
    for seed in range(5):
        kwargs = dict(messages=TALK, max_tokens=60, seed=seed, temperature=1.5)
        one = client.chat.completions.create(model=MODEL, response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}, **kwargs).choices[0]
        value = json.loads(one.message.content)
        check(isinstance(value["a"], int) and value["b"] in ("x", "yé") and len(value) == 2, "of the schema", value)
        value = json.loads(client.chat.completions.create(model=MODEL, response_format={"type": "json_object"}, **kwargs).choices[0].message.content)
        check(isinstance(value, dict), "an object", value)
        text = streamed(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}, **kwargs)[0]
        check(text == one.message.content, "streamed", text, one.message.content)
    body = refused(400, "a keyword that is not known", messages=TALK, response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"properties": {"q": {"uniqueItems": True}}}}})
    check("/properties/q" in body.get("message", ""), "with its path", body)
    refused(400, "no room for a whole one", messages=TALK, max_tokens=2, response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}})


def test_completions():
    one = client.completions.create(model=MODEL, prompt="name: x", max_tokens=15, seed=4)
    check(one.object == "text_completion" and one.choices[0].finish_reason == "length" and one.usage.completion_tokens == 15, "completion", one)
    text = "".join(c.choices[0].text for c in client.completions.create(model=MODEL, prompt="name: x", max_tokens=15, seed=4, stream=True))
    check(text == one.choices[0].text, "streamed", text, one.choices[0].text)
    check(client.completions.create(model=MODEL, prompt=["name: x"], max_tokens=15, seed=4).choices[0].text == text, "a list of one")
    bias = client.completions.create(model=MODEL, prompt="name: x", max_tokens=5, seed=4, logit_bias={"70": 100}, logprobs=0).choices[0]
    check(len(set(bias.logprobs.tokens)) == 1, "logit_bias", bias)
    refused(400, "echo", create=client.completions.create, prompt="a", echo=True)
    refused(400, "two prompts", create=client.completions.create, prompt=["a", "b"])


def test_embeddings():
    texts = ["roll the dice", "name", "roll the dice"]
    raw = client.embeddings.create(model=MODEL, input=texts, encoding_format="float").data
    check([e.index for e in raw] == [0, 1, 2] and raw[0].embedding == raw[2].embedding != raw[1].embedding, "floats", [e.embedding[:3] for e in raw])
    check(abs(sum(x * x for x in raw[0].embedding) - 1) < 1e-5, "of length 1")
    packed = client.embeddings.with_raw_response.create(model=MODEL, input=texts, encoding_format="base64").text
    packed = packed() if callable(packed) else packed
    for e, one in zip(raw, json.loads(packed)["data"]):
        data = base64.b64decode(one["embedding"], validate=True)
        check(len(data) == 4 * len(e.embedding) and all(struct.unpack_from("<f", data, 4 * i)[0] == struct.unpack("<f", struct.pack("<f", x))[0]
                                                       for i, x in enumerate(e.embedding)), "base64 is the same floats")
    check(client.embeddings.create(model=MODEL, input="roll the dice").data[0].embedding == [struct.unpack("<f", struct.pack("<f", x))[0] for x in raw[0].embedding], "one text, as the package asks by itself")
    refused(400, "no text", create=client.embeddings.create, input=[])


def test_many():
    """50 clients at once: each has the text, to the byte, that it has alone."""
    def ask(i, stream):
        kwargs = dict(messages=[{"role": "user", "content": "name %d" % (i % 10)}], max_tokens=30 + i % 7, seed=i % 10 * 7 + i % 7, temperature=1.2)
        return streamed(**kwargs)[0] if stream else client.chat.completions.create(model=MODEL, **kwargs).choices[0].message.content
    alone = {}
    for i in range(70):
        alone[i % 10, i % 7] = ask(i, False)
    got, errors = [None] * 50, []

    def run(i):
        try:
            got[i] = ask(i, i % 2)
        except Exception as e:
            errors.append(e)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(50)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check(not errors, "no error", errors[:3])
    for i in range(50):
        check(got[i] == alone[i % 10, i % 7], "client %d of 50" % i, got[i], alone[i % 10, i % 7])


for name, test in list(globals().items()):
    if name.startswith("test_"):
        try:
            test()
        except Exception as e:
            check(False, name, type(e).__name__, e)
sys.exit(report("server_test.py"))
