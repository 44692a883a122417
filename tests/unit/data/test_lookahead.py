"""What a template had written before it could know of a message is told, and never more than that."""

from __future__ import annotations

import pytest

from llamahome_tui.data.template import ChatTemplate, Rendered

TALK = [{"role": role, "content": f"{role}{at}"} for at, role in enumerate(("system", "user", "assistant") * 2)]
BODY = "[{{ m.role }}]{{ m.content }};"


def rendered(template: str) -> Rendered:
    one = ChatTemplate(template, {}).rendered(TALK)
    assert one == ChatTemplate(template, {}).rendered(TALK)
    return one


CUT = "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% set messages = messages[1:] %}{% endif %}"
INNER = "{% for c in m.content %}{{ c }}{{ loop.last }}{% endfor %}"


@pytest.mark.parametrize(
    "template",
    [
        "head{% for m in messages %}BODY{% endfor %}TAIL",
        "{% set all = messages %}{% for m in all %}BODY{% endfor %}TAIL",
        CUT + "{% for m in messages %}{{ loop.index0 }}{{ loop.first }}BODY{% endfor %}TAIL",
        "{% for m in messages %}{{ messages[loop.index0 - 1].role if loop.index0 }}BODY{% endfor %}TAIL",
        "{% if messages %}x{% endif %}{% for m in messages %}" + INNER + "BODY{% endfor %}TAIL",
    ],
)
def test_starts_are_where_prompts_end(template: str) -> None:
    template = template.replace("BODY", BODY).replace(
        "TAIL", "{% if add_generation_prompt %}<a>{% else %}<e>{% endif %}"
    )
    one, found = ChatTemplate(template, {}), rendered(template)
    assert set(found.starts) >= {2, 3, 4, 5}
    for number, at in found.starts.items():
        if number:
            assert one.render(TALK[:number], add_generation_prompt=True) == found.text[:at] + "<a>"
            assert one.render(TALK[:number]) == found.text[:at] + "<e>"


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{% if loop.last %}x{% endif %}BODY{% endfor %}",
        "{% for m in messages %}BODY{% if loop.nextitem %}x{% endif %}{% endfor %}",
        "{{ messages | length }}{% for m in messages %}BODY{% endfor %}",
        "{{ messages[-1].role }}{% for m in messages %}BODY{% endfor %}",
        "{% for m in messages[::-1] %}{{ m.role }}{% endfor %}{% for m in messages %}BODY{% endfor %}",
        "{% for m in messages %}{% endfor %}{% for m in messages %}BODY{% endfor %}",
        "{% for m in messages | list %}BODY{% endfor %}",
        "{% for m in messages %}BODY{% for n in messages %}{{ n.role }}{% endfor %}{% endfor %}",
        "{% for m in messages %}{% if not add_generation_prompt %}x{% endif %}BODY{% endfor %}",
        "{% for m in messages %}BODY{% endfor %}{{ messages[-1].role }}",
        "{% set n = namespace(x=0) %}{% for m in messages %}BODY{% set n.x = n.x + 1 %}{% endfor %}{{ n.x }}",
        "{% for m in messages %}BODY{% endfor %}{% for m in messages %}BODY{% endfor %}",
        "{% macro say() %}{% for m in messages %}BODY{% endfor %}{% endmacro %}{{ say() }}",
        "{% for m in messages if m.role != 'system' %}BODY{% endfor %}",
        "{% if true %}{% for m in messages %}BODY{% endfor %}{% endif %}",
        "{% for m in messages %}BODY{% if messages[loop.index0 + 1] is defined %}x{% endif %}{% endfor %}",
    ],
)
def test_what_looks_ahead_tells_nothing(template: str) -> None:
    assert set(rendered(template.replace("BODY", BODY)).starts) <= {0, 1}


@pytest.mark.parametrize(
    "template", ["{{ messages | tojson }}", "{{ messages }}", "{{ messages == [] }}", "{{ (messages + [1]) | length }}"]
)
def test_what_cannot_be_followed_is_rendered_with_a_list(template: str) -> None:
    from jinja2 import Environment

    plain = Environment(autoescape=False)
    plain.filters["tojson"] = __import__("json").dumps
    template += "{% for m in messages %}BODY{% endfor %}".replace("BODY", BODY)
    assert rendered(template).text == plain.from_string(template).render(messages=TALK)


def test_a_template_that_tells_nothing_is_not_followed_for_ever() -> None:
    one = ChatTemplate("{{ messages | length }}{% for m in messages %}" + BODY + "{% endfor %}", {})
    for _ in range(100):
        one.rendered(TALK)
    assert one._programs[one.text].follow == 0
