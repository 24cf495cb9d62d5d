"""What a submission is taken for: refused by a fault, or made into an order with a fate."""

from collections import Counter
from http import HTTPStatus
from typing import Any

from pingdata_async.sandbox.answers import Subject, outcome
from pingdata_async.sandbox.checks import CheckedLocation, Refusal
from pingdata_async.sandbox.dice import FaultDice, JobFate, SubmissionFault
from pingdata_async.sandbox.jobs import Order, SourceTally


class Intake:
    """Draws what becomes of a submission, and counts the faults among it.

    Args:
        dice: Which draw.
        faults: Where faults are counted, by name.
        no_match_share: The share of addresses that no source finds.
    """

    def __init__(self, dice: FaultDice, faults: Counter[str], no_match_share: float) -> None:
        self._dice = dice
        self._faults = faults
        self._no_match_share = no_match_share

    def refuse(self, locations: list[Any]) -> None:
        """Refuse a submission where the plan of faults says so."""
        fault = self._dice.on_submission(locations)
        if fault is None:
            return
        self._faults[fault.plan_name] += 1
        plan = self._dice.plan
        if fault is SubmissionFault.TOO_MANY:
            raise Refusal(
                plan.max_locations_status,
                f"{len(locations)} locations are too many: at most {plan.max_locations}",
            )
        is_poison = fault is SubmissionFault.POISON
        # Nothing is named: whoever wants to know which location it was has to find out.
        message = "invalid location in request" if is_poison else plan.reject_message
        raise Refusal(HTTPStatus.BAD_REQUEST, message)

    def fate(self, order: Order) -> JobFate:
        """Draw what will become of a job, and count it."""
        faults = self._faults
        if self._dice.is_poisoned(location.fields for location in order.locations):
            faults["poison_job"] += 1
            fate = self._dice.failure()
        else:
            fate = self._dice.on_job()
            if fate is not JobFate.SUCCESS:
                faults[fate.plan_name] += 1
        if fate is JobFate.LOST:
            order.lost_after = self._dice.lost_after()
        order.filename = self._dice.odd_filename()
        if order.filename is not None:
            faults["odd_filename"] += 1
        if order.gaps.locations:
            faults["missing_location"] += len(order.gaps.locations)
        for gap in order.gaps.sources.values():
            faults[gap.plan_name] += 1
        return fate

    def survey(self, order: Order, index: int, location: CheckedLocation) -> int:
        """Add a location to an order, and find out how its sources will do.

        Returns:
            A number that is equal for equal locations.
        """
        order.locations.append(location)
        subject = Subject.of(location.fields)
        has_problem = self._dice.loses_location()
        if has_problem:
            order.gaps.locations.add(index)
        for source in location.sources:
            result = outcome(subject, source, self._no_match_share)
            is_success = result.is_success
            if fault := self._dice.on_source():
                order.gaps.sources[index, source] = fault
                is_success = False
            tally = order.tallies.setdefault(source, SourceTally())
            tally.add(is_success=is_success, seconds=result.fetch_time)
            has_problem = has_problem or not is_success
        if has_problem:
            order.problems.append(index)
        return hash((location.id, subject.everything, location.sources))
