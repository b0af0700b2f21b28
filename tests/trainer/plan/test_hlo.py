"""The text of a program, taken apart."""

import pytest

from tests.trainer.plan.programs import DATA, module_of, program
from trainer.plan.hlo import array_bytes, parse_hlo, shape_bytes
from trainer.plan.trips import trip_count


def test_a_program_is_read_whole():
    module = program("nested_loops")
    lines = (DATA / "nested_loops.hlo.txt").read_text().splitlines()
    assert len(module.computations) == sum(line.endswith("{") for line in lines)
    operations = sum(len(operations) for operations in module.computations.values())
    assert operations == sum(line.startswith(("  %", "  ROOT %")) for line in lines) > 100
    assert module.root(module.entry) is not None


def test_an_operation():
    fusion = program("matmul").computations["main.1"]["fusion"]
    assert (fusion.opcode, fusion.shape, fusion.is_root) == ("fusion", "bf16[4096,4096]{1,0:T(8,128)(2,1)}", True)
    assert fusion.cycles == 1083068
    assert fusion.called("calls") == ["fused_computation"]
    assert fusion.op_name == "jit(<lambda>)/dot_general"


def test_an_operation_over_several_lines():
    module = module_of(
        '  ROOT %k = (f32[8]{0}, s32[2]) custom-call(%a, %b), custom_call_target="x",\n "estimated_cycles":"7"'
    )
    assert module.computations["main"]["k"].cycles == 7
    assert module.computations["main"]["k"].operand_names == ["a", "b"]


def test_python_calls_come_from_the_tables_of_frames():
    module = program("nested_loops")
    (product,) = (
        op for op in module.computations["fused_computation.2.clone.1"].values() if op.opcode == "convolution"
    )
    calls = [(call.file, call.function) for call in module.calls_of(product)]
    assert calls[0] == ("/src/trainer/gen.py", "step.<locals>.outer.<locals>.inner")
    assert calls[-1] == ("/src/trainer/gen.py", "<module>")


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[]{:T(128)}", 4),
        ("bf16[8,128]{1,0:T(8,128)(2,1)S(1)}", 2048),
        ("(f32[2,3]{1,0}, (s8[4]{0}, pred[]), u32[]{:S(2)})", 24 + 4 + 1 + 4),
        ("token[]", 0),
    ],
)
def test_bytes_of_a_shape(shape: str, size: int):
    assert shape_bytes(shape) == sum(array_bytes(shape)) == size


def test_other_text_is_refused():
    with pytest.raises(ValueError, match="not the text of an HLO module"):
        parse_hlo("hello")


def test_trips_come_from_conditions():
    module = program("nested_loops")
    found = {
        trip_count(module, name, op)
        for name, operations in module.computations.items()
        for op in operations.values()
        if op.opcode == "while"
    }
    assert found == {3, 7}


CONDITION = """%cond (p: (s32[], s32[])) -> pred[] {{
  %p = (s32[], s32[]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] get-tuple-element(%p), index=1
  {root}
}}
%compare (x: s32[], y: s32[]) -> pred[] {{
  %x = s32[] parameter(0)
  %y = s32[] parameter(1)
  ROOT %c = pred[] compare(%y, %x), direction=GT
}}
"""


@pytest.mark.parametrize(
    ("root", "last", "attributes", "trips"),
    [
        ("ROOT %c = pred[] compare(%i, %n), direction=LT", "s32[] constant(12)", "", 10),
        ("ROOT %c = pred[] compare(%i, %n), direction=LE", "s32[] constant(12)", "", 11),
        ("ROOT %c = pred[] fusion(%i, %n), kind=kLoop, calls=%compare", "s32[] constant(12)", "", 10),
        ("ROOT %c = pred[] compare(%i, %n), direction=LT", "s32[] parameter(1)", "", None),
        (
            "ROOT %c = pred[] compare(%i, %n), direction=LT",
            "s32[] parameter(1)",
            ', backend_config={"known_trip_count":{"n":"5"}}',
            5,
        ),
    ],
)
def test_trips(root: str, last: str, attributes: str, trips: int | None):
    module = module_of(
        f"""  %a = s32[] constant(2)
  %first = s32[] copy(%a)
  %last = {last}
  %start = (s32[], s32[]) tuple(%first, %last)
  ROOT %loop = (s32[], s32[]) while(%start), condition=%cond, body=%body{attributes}""",
        computations=CONDITION.format(root=root),
    )
    assert trip_count(module, "main", module.computations["main"]["loop"]) == trips
