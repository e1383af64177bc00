"""A user is created; billing and preferences are set up side by side; a welcome needs both."""

from typing import Annotated, Literal

import msgspec

from tasker import StepContext, Template

Plan = Literal["free", "pro", "enterprise"]
PRICE_CENTS: dict[Plan, int] = {"free": 0, "pro": 2900, "enterprise": 29900}


class Registration(msgspec.Struct):
    email: Annotated[str, msgspec.Meta(pattern="^[^@ ]+@[^@ ]+$", max_length=254)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    plan: Plan = "free"


class User(msgspec.Struct):
    user_id: str
    email: str


class Billing(msgspec.Struct):
    plan: Plan
    monthly_cents: int


class Preferences(msgspec.Struct):
    language: str
    newsletter: bool


class Profile(msgspec.Struct):
    user_id: str
    email: str
    plan: Plan
    preferences: Preferences
    status: str


user_registration = Template("user_registration")


@user_registration.step
async def create_user(ctx: StepContext, input: Registration) -> User:
    # The key is the same over all attempts, and so is the id made of it.
    return User(user_id=f"user-{ctx.idempotency_key.partition(':')[0]}", email=input.email.lower())


@user_registration.step(after="create_user")
async def billing(input: Registration) -> Billing:
    return Billing(plan=input.plan, monthly_cents=PRICE_CENTS[input.plan])


@user_registration.step
async def preferences(create_user: User) -> Preferences:
    language = "de" if create_user.email.endswith(".de") else "en"
    return Preferences(language=language, newsletter=False)


@user_registration.step
async def welcome(input: Registration, billing: Billing, preferences: Preferences) -> str:
    greeting = {"de": "Willkommen", "en": "Welcome"}[preferences.language]
    return f"{greeting}, {input.name}: your plan is {billing.plan}"


@user_registration.step(after="welcome")
async def status(create_user: User, billing: Billing, preferences: Preferences) -> Profile:
    return Profile(
        user_id=create_user.user_id,
        email=create_user.email,
        plan=billing.plan,
        preferences=preferences,
        status="active",
    )


REGISTRATION = {"email": "Ada@example.de", "name": "Ada", "plan": "pro"}
PROFILE = {
    "email": "ada@example.de",
    "plan": "pro",
    "preferences": {"language": "de", "newsletter": False},
    "status": "active",
}
"""Of the profile that `REGISTRATION` ends in; the user's id comes on top, made of the task's."""
