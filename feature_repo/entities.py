"""Who features are about. Ids are strings everywhere, so that zero padding survives."""

from feast import Entity, Project, ValueType

from lettingo_features.columns import ITEM_ID, USER_ID

project = Project(
    name="lettingo",
    description="LLM-written text about users and items as point-in-time correct features",
)

user = Entity(name="user", join_keys=[USER_ID], value_type=ValueType.STRING, description="Somebody who interacts")

item = Entity(name="item", join_keys=[ITEM_ID], value_type=ValueType.STRING, description="Something to recommend")
