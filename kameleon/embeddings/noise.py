"""How alike a model finds texts that have nothing in common. Imports `values`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..values import Noise

LEAST_SENTENCES = 32
"""Bounds from below the embeddings that noise is measured with: with 32 the mean plus three deviations is within .01 of
that with 64 for the bundled model, within .05 for MiniLM."""
SENTENCES = """\
The harbour was closed because of heavy fog this morning.
She tuned the violin before the concert began.
Interest rates rose by half a percent in the last quarter.
Boil the pasta for eight minutes and drain it well.
The printer on the second floor is out of toner.
A glacier carries stones and gravel down the valley.
He scored twice in the final minutes of the match.
The patient complains of pain in the left knee.
Photosynthesis turns light into chemical energy.
The contract ends on the last day of March.
Children under six travel free on all trains.
The new bridge will be opened by the mayor in June.
Wool sweaters should be washed by hand in cold water.
My password no longer works since the update.
The poem is about the loneliness of an old sailor.
Volcanic ash delayed hundreds of flights.
The committee rejected the proposal by nine votes to four.
Feed the cat twice a day and change its water.
A transistor can be used as a switch or as an amplifier.
Red running shoes for men, size ten, wide fit.
The soil here is too dry for tomatoes.
The king was succeeded by his younger brother.
Please send the invoice to our new address.
Electric cars lose range in very cold weather.
The lecture explains how prime numbers are distributed.
Two witnesses saw the burglar climb over the fence.
Whales migrate thousands of kilometres every year.
The museum shows early photographs of the city.
Insulin lowers the level of sugar in the blood.
The roof leaks whenever the wind comes from the west.
Stir the paint before you apply the second coat.
The satellite will orbit the moon for three years.
Unemployment fell in most regions of the country.
The library lends books for four weeks.
A comedy about two neighbours who swap houses.
Bees tell each other where flowers are by dancing.
The brakes squeal when I ride downhill in the rain.
The judge postponed the hearing until next week.
Sharpen the knife on a wet stone.
The band released its third album in the autumn.
Refugees crossed the border during the night.
Graph theory studies vertices and the edges between them.
The hotel offers breakfast from seven to ten.
Use a strong password and change it regularly.
The vaccine protects against measles and mumps.
The tower was struck by lightning in 1802.
Our dog is afraid of fireworks.
Steel is made of iron and a little carbon.
The train to the airport leaves every quarter of an hour.
She wrote her first novel at the age of nineteen.
The screen stays black after I press the power button.
Rice is grown in flooded fields.
The senator apologised for his remarks.
Stretch your muscles before you run.
Blue curtains with a pattern of small birds.
The river floods the meadows every spring.
A refund is possible within thirty days.
The orchestra played a symphony by a young composer.
Archaeologists found coins beneath the church.
The algorithm sorts a list in linear time.
Add a spoonful of honey and a pinch of salt.
The mine was closed after the accident.
Cold air sinks and warm air rises.
The apprentice repaired the old clock.
""".splitlines()
"""Each is about another subject. They are part of what a score means: other sentences are another scale."""


def noise_of(embeddings: Sequence[Any]) -> Noise | None:
    """The noise of a model that embedded the sentences, None for one that refused. None where these are too few, or are
    all alike."""
    made = [vector for vector in embeddings if vector is not None]
    if len(made) < LEAST_SENTENCES:
        return None
    matrix = np.asarray(made, np.float64)
    cosines = (matrix @ matrix.T)[np.triu_indices(len(made), 1)]
    deviation = float(cosines.std())
    return (float(cosines.mean()), deviation) if deviation > 1e-6 else None
